//! Flows: what an allowed packet leaves behind so that its replies pass.

use super::expr::{Expr, Reg, Source};

/// Flows remembered at once, for each address family: about 20 MB of kernel memory when full. A
/// packet of a flow that finds no room is not allowed.
pub const FLOWS_MAX: u32 = 131_072;
/// A flow without a packet for this long is forgotten, in milliseconds: RFC 4787 recommends 5
/// minutes for UDP. A TCP connection that was idle for longer continues when the side that opened
/// it speaks.
pub const FLOW_TIMEOUT_MS: u64 = 300_000;

/// An address family as the filter tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    pub(super) fn set(self) -> &'static str {
        match self {
            Self::V4 => "flows4",
            Self::V6 => "flows6",
        }
    }

    pub(super) fn ether_type(self) -> [u8; 2] {
        match self {
            Self::V4 => [0x08, 0x00],
            Self::V6 => [0x86, 0xdd],
        }
    }

    pub(super) fn address_length(self) -> u8 {
        match self {
            Self::V4 => 4,
            Self::V6 => 16,
        }
    }

    /// Where source and destination address are in the IP header.
    pub(super) fn source(self) -> Source {
        match self {
            Self::V4 => Source::Network(12, 4),
            Self::V6 => Source::Network(8, 16),
        }
    }

    pub(super) fn destination(self) -> Source {
        match self {
            Self::V4 => Source::Network(16, 4),
            Self::V6 => Source::Network(24, 16),
        }
    }

    pub(super) fn icmp(self) -> u8 {
        match self {
            Self::V4 => 1,
            Self::V6 => 58,
        }
    }

    /// ICMP types of echo request and reply.
    pub(super) fn echo(self) -> (u8, u8) {
        match self {
            Self::V4 => (8, 0),
            Self::V6 => (128, 129),
        }
    }

    /// ICMP types that report errors (RFC 792; RFC 4443 section 3): path MTU discovery lives on
    /// them.
    pub(super) fn errors(self) -> (u8, u8) {
        match self {
            Self::V4 => (3, 3),
            Self::V6 => (1, 4),
        }
    }

    /// Protocol, two addresses, two ports, each filled up to registers of 4 bytes.
    pub(super) fn key_length(self) -> usize {
        12 + 2 * usize::from(self.address_length())
    }
}

/// What tells the flows of one pair of addresses and one protocol apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Discriminator {
    /// The first four bytes above IP: TCP, UDP, SCTP.
    Ports,
    /// The identifier of an echo.
    EchoId,
    /// Nothing.
    Nothing,
}

/// Loads the key of the packet's flow, or of the flow it replies to, into the registers from the
/// first on.
pub(super) fn key(family: Family, discriminator: Discriminator, reply: bool) -> Vec<Expr> {
    let step = family.address_length() / 4;
    let (from, to) = if reply {
        (family.destination(), family.source())
    } else {
        (family.source(), family.destination())
    };
    let (first, second) = (Reg(1 + 2 * step), Reg(2 + 2 * step));
    let mut exprs = vec![
        Expr::Load(Source::Protocol, Reg(0)),
        Expr::Load(from, Reg(1)),
        Expr::Load(to, Reg(1 + step)),
    ];
    exprs.extend(match discriminator {
        Discriminator::Ports => {
            let (source, destination) = (Source::Transport(0, 2), Source::Transport(2, 2));
            let (one, other) = if reply {
                (destination, source)
            } else {
                (source, destination)
            };
            [Expr::Load(one, first), Expr::Load(other, second)]
        }
        Discriminator::EchoId => [
            Expr::Load(Source::Transport(4, 2), first),
            Expr::Zero(second),
        ],
        Discriminator::Nothing => [Expr::Zero(first), Expr::Zero(second)],
    });
    exprs
}

/// Records the flow whose key is in the registers, or renews it.
pub(super) fn record(family: Family) -> Expr {
    Expr::Record(family.set(), Reg(0), FLOW_TIMEOUT_MS)
}
