//! A blocking rtnetlink socket: batches out, acknowledgements and replies in.

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;

use crate::error::KernelError;
use crate::steps::Steps;

/// Messages in one send: their acknowledgements have to fit into the socket's default receive
/// buffer (208 KiB).
const MAX_BATCH: usize = 64;
/// A dump's messages come in pieces of at most 32 KiB.
const RECEIVE_BYTES: usize = 64 * 1024;
/// Dumps interrupted by a change are repeated this often; links come and go, but not for ever.
const MAX_DUMPS: usize = 8;

/// One request with its purpose, for errors.
#[derive(Clone, Debug)]
pub struct Request {
    message: RouteNetlinkMessage,
    flags: u16,
    op: &'static str,
    object: String,
}

impl Request {
    /// A request; `op` and `object` go into its error.
    pub fn new(
        op: &'static str,
        object: impl Into<String>,
        flags: u16,
        message: RouteNetlinkMessage,
    ) -> Self {
        Self {
            message,
            flags,
            op,
            object: object.into(),
        }
    }

    pub(crate) fn message_mut(&mut self) -> &mut RouteNetlinkMessage {
        &mut self.message
    }

    /// Whether it asks for more than an answer.
    fn changes(&self) -> bool {
        !matches!(
            self.message,
            RouteNetlinkMessage::GetLink(_)
                | RouteNetlinkMessage::GetRoute(_)
                | RouteNetlinkMessage::GetNsId(_)
                | RouteNetlinkMessage::GetAddress(_)
                | RouteNetlinkMessage::GetNeighbour(_)
        )
    }

    fn failed(&self, errno: i32) -> KernelError {
        KernelError::new(self.op, self.object.clone(), errno)
    }
}

/// What became of one request: the messages it returned.
pub type Outcome = Result<Vec<RouteNetlinkMessage>, KernelError>;

/// A socket of the namespace in which it was opened; usable from anywhere. It keeps that namespace
/// alive.
#[derive(Debug)]
pub struct Socket {
    inner: netlink_sys::Socket,
    steps: Steps,
    sequence: u32,
    out: Vec<u8>,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens a socket in the calling thread's namespace.
    ///
    /// # Errors
    /// When the kernel gives none.
    pub fn open() -> Result<Self, KernelError> {
        let open = || {
            let inner = netlink_sys::Socket::new(NETLINK_ROUTE)?;
            // Errors need not repeat the request.
            inner.set_cap_ack(true)?;
            std::io::Result::Ok(inner)
        };
        let inner = open().map_err(|e| KernelError::io("open", "netlink socket", &e))?;
        Ok(Self {
            inner,
            steps: Steps::default(),
            sequence: 0,
            out: Vec::new(),
            buffer: Vec::with_capacity(RECEIVE_BYTES),
        })
    }

    /// Tells of each change that is sent from now on.
    pub(crate) fn stepping(mut self, steps: &Steps) -> Self {
        self.steps = steps.clone();
        self
    }

    /// Sends requests together and returns what became of each, in order.
    ///
    /// # Errors
    /// When the socket itself fails; a refused request is in the outcomes.
    pub fn batch(&mut self, requests: &[Request]) -> Result<Vec<Outcome>, KernelError> {
        let mut outcomes = Vec::with_capacity(requests.len());
        let together = if self.steps.are_single() {
            1
        } else {
            MAX_BATCH
        };
        for chunk in requests.chunks(together) {
            if chunk.iter().any(Request::changes) {
                self.steps.step();
            }
            outcomes.extend(self.exchange(chunk)?);
        }
        Ok(outcomes)
    }

    /// Sends requests together.
    ///
    /// # Errors
    /// The first refused request's. The kernel handles the others all the same.
    pub fn execute(&mut self, requests: &[Request]) -> Result<(), KernelError> {
        self.batch(requests)?
            .into_iter()
            .try_for_each(|outcome| outcome.map(drop))
    }

    /// Sends one request and returns its reply.
    ///
    /// # Errors
    /// The request's.
    pub fn query(&mut self, request: Request) -> Outcome {
        self.batch(std::slice::from_ref(&request))?
            .pop()
            .unwrap_or(Ok(Vec::new()))
    }

    /// Lists.
    ///
    /// # Errors
    /// The request's.
    pub fn dump(&mut self, request: &Request) -> Outcome {
        for _ in 0..MAX_DUMPS {
            let sequence = self.send(std::slice::from_ref(request), NLM_F_REQUEST | NLM_F_DUMP)?;
            if let Some(all) = self.receive_dump(request, sequence)? {
                return Ok(all);
            }
        }
        Err(request.failed(libc::EAGAIN))
    }

    fn receive_dump(
        &mut self,
        request: &Request,
        sequence: u32,
    ) -> Result<Option<Vec<RouteNetlinkMessage>>, KernelError> {
        let (mut all, mut interrupted) = (Vec::new(), false);
        loop {
            for message in self.receive()? {
                if message.header.sequence_number != sequence {
                    continue;
                }
                interrupted |= message.header.flags & netlink_packet_core::NLM_F_DUMP_INTR != 0;
                match message.payload {
                    NetlinkPayload::InnerMessage(inner) => all.push(inner),
                    NetlinkPayload::Error(error) => return Err(request.failed(-error.raw_code())),
                    NetlinkPayload::Done(_) => return Ok((!interrupted).then_some(all)),
                    _ => {}
                }
            }
        }
    }

    fn exchange(&mut self, requests: &[Request]) -> Result<Vec<Outcome>, KernelError> {
        let first = self.send(requests, NLM_F_REQUEST | NLM_F_ACK)?;
        let mut outcomes: Vec<Outcome> = requests.iter().map(|_| Ok(Vec::new())).collect();
        let mut open = requests.len();
        while open > 0 {
            for message in self.receive()? {
                let at = usize::try_from(message.header.sequence_number.wrapping_sub(first))
                    .unwrap_or(usize::MAX);
                let (Some(request), Some(outcome)) = (requests.get(at), outcomes.get_mut(at))
                else {
                    continue;
                };
                match message.payload {
                    NetlinkPayload::InnerMessage(inner) => {
                        if let Ok(replies) = outcome {
                            replies.push(inner);
                        }
                    }
                    NetlinkPayload::Error(error) => {
                        open -= 1;
                        if error.code.is_some() {
                            *outcome = Err(request.failed(-error.raw_code()));
                        }
                    }
                    _ => {}
                }
            }
        }
        Ok(outcomes)
    }

    /// Returns the first request's sequence number.
    fn send(&mut self, requests: &[Request], flags: u16) -> Result<u32, KernelError> {
        let first = self.sequence.wrapping_add(1);
        self.out.clear();
        for request in requests {
            self.sequence = self.sequence.wrapping_add(1);
            let mut header = NetlinkHeader::default();
            header.sequence_number = self.sequence;
            header.flags = flags | request.flags;
            let mut message =
                NetlinkMessage::new(header, NetlinkPayload::from(request.message.clone()));
            message.finalize();
            let start = self.out.len();
            // Messages in one datagram start at multiples of 4 (NLMSG_ALIGN).
            self.out
                .resize(start + message.buffer_len().next_multiple_of(4), 0);
            message.serialize(&mut self.out[start..]);
        }
        self.inner
            .send(&self.out, 0)
            .map_err(|e| KernelError::io("send to", "netlink socket", &e))?;
        Ok(first)
    }

    fn receive(&mut self) -> Result<Vec<NetlinkMessage<RouteNetlinkMessage>>, KernelError> {
        self.buffer.clear();
        loop {
            match self.inner.recv(&mut self.buffer, 0) {
                Ok(_) => break,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(KernelError::io("receive from", "netlink socket", &error));
                }
            }
        }
        Ok(parse(&self.buffer))
    }
}

/// The messages in a datagram from the kernel; one that cannot be read is skipped with what follows
/// it.
pub(crate) fn parse(bytes: &[u8]) -> Vec<NetlinkMessage<RouteNetlinkMessage>> {
    parse_some(bytes, |_| true)
}

/// Those of them whose type number (`linux/rtnetlink.h`) is wanted.
pub(crate) fn parse_some(
    mut bytes: &[u8],
    wanted: impl Fn(u16) -> bool,
) -> Vec<NetlinkMessage<RouteNetlinkMessage>> {
    let mut messages = Vec::new();
    while let Some(length) = bytes.first_chunk::<4>() {
        let length = usize::try_from(u32::from_ne_bytes(*length)).unwrap_or(usize::MAX);
        let Some(one) = bytes.get(..length) else {
            break;
        };
        let kind = one.get(4..6).and_then(|kind| kind.try_into().ok());
        if kind.is_some_and(|kind| wanted(u16::from_ne_bytes(kind))) {
            match NetlinkMessage::<RouteNetlinkMessage>::deserialize(one) {
                Ok(message) => messages.push(message),
                Err(error) => tracing::debug!(%error, "unreadable netlink message"),
            }
        }
        if length == 0 {
            break;
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    messages
}
