//! A netfilter netlink socket: batches that succeed or fail as a whole, and dumps.

use netlink_sys::protocols::NETLINK_NETFILTER;

use super::error::FilterError;
use super::message::Message;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_DUMP: u16 = 0x300;
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const FAMILY_BRIDGE: u8 = 7;
/// Lengths of the netlink and the netfilter header.
const HEADER: usize = 16;
const GENERIC: usize = 4;
/// Dump messages come in pieces of at most 32 KiB.
const RECEIVE_BYTES: usize = 64 * 1024;
/// A batch is one send: asked for, the kernel grants up to net.core.wmem_max.
const SEND_BYTES: usize = 1 << 20;
/// Dumps interrupted by a change are repeated this often; rules do not change for ever.
const DUMPS_MAX: usize = 8;

#[derive(Debug)]
pub(super) struct Socket {
    inner: netlink_sys::Socket,
    sequence: u32,
}

/// One answer of the kernel: type, flags, sequence number, what follows the header.
pub(super) struct Answer {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: Vec<u8>,
}

/// A dump as it comes in.
#[derive(Debug)]
pub(super) struct Dump {
    sequence: u32,
    interrupted: bool,
    /// The attributes of each answer.
    pub(super) all: Vec<Vec<u8>>,
}

impl Dump {
    pub(super) fn new(sequence: u32) -> Self {
        Self {
            sequence,
            interrupted: false,
            all: Vec::new(),
        }
    }

    /// Takes a datagram's answers in; whether the dump is whole now, or the kernel's error number.
    pub(super) fn take(&mut self, answers: Vec<Answer>) -> Result<bool, i32> {
        for answer in answers {
            if answer.sequence != self.sequence {
                continue;
            }
            self.interrupted |= answer.flags & NLM_F_DUMP_INTR != 0;
            match answer.kind {
                NLMSG_DONE => return Ok(true),
                NLMSG_ERROR => return Err(errno(&answer.body)),
                _ => self
                    .all
                    .push(answer.body.get(GENERIC..).unwrap_or_default().to_vec()),
            }
        }
        Ok(false)
    }
}

impl Socket {
    pub(super) fn open() -> Result<Self, FilterError> {
        let open = || {
            let inner = netlink_sys::Socket::new(NETLINK_NETFILTER)?;
            inner.set_cap_ack(true)?;
            rustix::net::sockopt::set_socket_send_buffer_size(&inner, SEND_BYTES)?;
            std::io::Result::Ok(inner)
        };
        let inner = open().map_err(|e| {
            FilterError::kernel("open", "socket", e.raw_os_error().unwrap_or(libc::EIO))
        })?;
        Ok(Self { inner, sequence: 0 })
    }

    /// Sends the messages as one transaction: all of them take effect, or none.
    pub(super) fn transact(
        &mut self,
        op: &'static str,
        object: &str,
        messages: &[Message],
    ) -> Result<(), FilterError> {
        let failed = |errno| FilterError::kernel(op, object, errno);
        let mut bytes = Vec::new();
        let mut sequence = self.sequence;
        let mut next = || {
            sequence = sequence.wrapping_add(1);
            sequence
        };
        frame(
            &mut bytes,
            BATCH_BEGIN,
            NLM_F_REQUEST,
            next(),
            (0, SUBSYSTEM),
            &[],
        );
        let mut last = 0;
        for (index, message) in messages.iter().enumerate() {
            // Errors come in any case; the last acknowledgement says that there was none.
            let ack = if index + 1 == messages.len() {
                NLM_F_ACK
            } else {
                0
            };
            last = next();
            let kind = SUBSYSTEM << 8 | message.kind;
            frame(
                &mut bytes,
                kind,
                NLM_F_REQUEST | message.flags | ack,
                last,
                (FAMILY_BRIDGE, 0),
                &message.attributes.0,
            );
        }
        frame(
            &mut bytes,
            BATCH_END,
            NLM_F_REQUEST,
            next(),
            (0, SUBSYSTEM),
            &[],
        );
        self.sequence = sequence;
        self.send(&bytes).map_err(|errno| match errno {
            libc::EMSGSIZE => FilterError::TooLarge {
                op,
                object: object.to_owned(),
                bytes: bytes.len(),
            },
            errno => failed(errno),
        })?;
        loop {
            for answer in self.receive().map_err(failed)? {
                if answer.kind != NLMSG_ERROR {
                    continue;
                }
                match errno(&answer.body) {
                    0 if answer.sequence == last => return Ok(()),
                    0 => {}
                    errno => {
                        self.drain();
                        return Err(failed(errno));
                    }
                }
            }
        }
    }

    /// Lists; returns the attributes of each answer.
    pub(super) fn dump(
        &mut self,
        op: &'static str,
        object: &str,
        message: Message,
    ) -> Result<Vec<Vec<u8>>, FilterError> {
        let failed = |errno| FilterError::kernel(op, object, errno);
        for _ in 0..DUMPS_MAX {
            self.sequence = self.sequence.wrapping_add(1);
            let (mut bytes, kind) = (Vec::new(), SUBSYSTEM << 8 | message.kind);
            frame(
                &mut bytes,
                kind,
                NLM_F_REQUEST | NLM_F_DUMP,
                self.sequence,
                (FAMILY_BRIDGE, 0),
                &message.attributes.0,
            );
            self.send(&bytes).map_err(failed)?;
            if let Some(all) = self.receive_dump().map_err(failed)? {
                return Ok(all);
            }
        }
        Err(failed(libc::EAGAIN))
    }

    fn receive_dump(&mut self) -> Result<Option<Vec<Vec<u8>>>, i32> {
        let mut dump = Dump::new(self.sequence);
        loop {
            if dump.take(self.receive()?)? {
                return Ok((!dump.interrupted).then_some(dump.all));
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> Result<(), i32> {
        self.inner
            .send(bytes, 0)
            .map(drop)
            .map_err(|e| e.raw_os_error().unwrap_or(libc::EIO))
    }

    /// A failed batch may have several errors; the first is the cause.
    fn drain(&self) {
        let mut buffer = Vec::with_capacity(RECEIVE_BYTES);
        while self.inner.recv(&mut buffer, libc::MSG_DONTWAIT).is_ok() {
            buffer.clear();
        }
    }

    fn receive(&self) -> Result<Vec<Answer>, i32> {
        let mut buffer = Vec::with_capacity(RECEIVE_BYTES);
        loop {
            match self.inner.recv(&mut buffer, 0) {
                Ok(_) => return Ok(split(&buffer)),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.raw_os_error().unwrap_or(libc::EIO)),
            }
        }
    }
}

/// Appends one message: netlink header, netfilter header (family, version 0, resource), attributes.
fn frame(
    out: &mut Vec<u8>,
    kind: u16,
    flags: u16,
    sequence: u32,
    (family, resource): (u8, u16),
    attributes: &[u8],
) {
    let length = u32::try_from(HEADER + GENERIC + attributes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(&flags.to_ne_bytes());
    out.extend_from_slice(&sequence.to_ne_bytes());
    out.extend_from_slice(&0u32.to_ne_bytes());
    out.extend_from_slice(&[family, 0]);
    out.extend_from_slice(&resource.to_be_bytes());
    out.extend_from_slice(attributes);
}

/// The answers in a datagram; one that is cut short ends it.
pub(super) fn split(mut bytes: &[u8]) -> Vec<Answer> {
    let mut answers = Vec::new();
    while let Some(header) = bytes.first_chunk::<HEADER>() {
        let short = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let long = |at: usize| {
            u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let length = usize::try_from(long(0)).unwrap_or(usize::MAX);
        let Some(body) = bytes.get(HEADER..length) else {
            break;
        };
        answers.push(Answer {
            kind: short(4),
            flags: short(6),
            sequence: long(8),
            body: body.to_vec(),
        });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    answers
}

/// The error number of an error message's body, positive; 0 acknowledges.
fn errno(body: &[u8]) -> i32 {
    body.first_chunk::<4>().map_or(libc::EPROTO, |code| {
        i32::from_ne_bytes(*code).saturating_neg()
    })
}
