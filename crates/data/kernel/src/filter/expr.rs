//! nf_tables expressions: the small instructions a rule is made of.

use super::message::Attributes;

/// A register of the rule machine: sixteen of 4 bytes; longer values take several from their first
/// on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reg(pub(super) u8);

impl Reg {
    /// Where matches load what they compare.
    pub(super) const MATCH: Self = Self(0);

    /// NFT_REG32_00 is 8.
    fn number(self) -> u32 {
        8 + u32::from(self.0)
    }
}

/// What a value is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The Ethernet type (NFT_META_PROTOCOL).
    EtherType,
    /// The name of the port the packet came in by (NFT_META_IIFNAME).
    InName,
    /// The protocol above IP (NFT_META_L4PROTO).
    Protocol,
    /// Bytes of the IP header: offset, length.
    Network(u32, u32),
    /// Bytes of the header above IP: offset, length.
    Transport(u32, u32),
    /// Bytes of the IPv6 fragment header: offset, length.
    Fragment(u32, u32),
}

/// One instruction. A comparison that fails ends the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expr {
    /// Reads into a register; fails where the packet has no such bytes.
    Load(Source, Reg),
    /// Sets a register to zero.
    Zero(Reg),
    /// Keeps the bits of the mask.
    Mask(Reg, Vec<u8>),
    /// Compares for equality, or inequality.
    Compare(Reg, bool, Vec<u8>),
    /// Between two values, both included.
    Range(Reg, Vec<u8>, Vec<u8>),
    /// Is the register's value in the set? One without a name is found by its number in the batch.
    Lookup(&'static str, Option<u32>, Reg),
    /// Adds the register's value to the set, or renews its life; fails when the set is full.
    Record(&'static str, Reg, u64),
    /// Counts packets and bytes.
    Counter,
    /// Decides.
    Verdict(Jump),
}

/// How a rule ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Jump {
    /// The packet passes (NF_ACCEPT).
    Accept,
    /// The packet is dropped (NF_DROP).
    Drop,
    /// Another chain decides; if it does not, this one's policy does (NFT_GOTO).
    Chain(&'static str),
}

/// Numbers of `enum nft_meta_keys`, `nft_payload_bases`, `nft_cmp_ops`, `nft_dynset_ops`; the
/// fragment header is IPv6's next header 44.
const META_PROTOCOL: u32 = 1;
const META_IIFNAME: u32 = 6;
const META_L4PROTO: u32 = 16;
const BASE_NETWORK: u32 = 1;
const BASE_TRANSPORT: u32 = 2;
const CMP_EQ: u32 = 0;
const CMP_NEQ: u32 = 1;
const RANGE_EQ: u32 = 0;
const DYNSET_UPDATE: u32 = 1;
const FRAGMENT_HEADER: u8 = 44;
const REG_VERDICT: u32 = 0;
const NF_DROP: i32 = 0;
const NF_ACCEPT: i32 = 1;
const NFT_GOTO: i32 = -4;

impl Expr {
    /// NFTA_EXPR_NAME 1, NFTA_EXPR_DATA 2.
    pub(super) fn attributes(&self) -> Attributes {
        let (name, data) = self.parts();
        Attributes::default().text(1, name).nest(2, &data)
    }

    fn parts(&self) -> (&'static str, Attributes) {
        let start = Attributes::default();
        match self {
            Self::Load(source, reg) => load(*source, *reg),
            Self::Zero(reg) => ("immediate", start.number(1, reg.number()).data(2, &[0; 4])),
            Self::Mask(reg, mask) => {
                let length = u32::try_from(mask.len()).unwrap_or(u32::MAX);
                let registers = start
                    .number(1, reg.number())
                    .number(2, reg.number())
                    .number(3, length);
                (
                    "bitwise",
                    registers.data(4, mask).data(5, &vec![0; mask.len()]),
                )
            }
            Self::Compare(reg, equal, value) => {
                let op = if *equal { CMP_EQ } else { CMP_NEQ };
                (
                    "cmp",
                    start.number(1, reg.number()).number(2, op).data(3, value),
                )
            }
            Self::Range(reg, from, to) => (
                "range",
                start
                    .number(1, reg.number())
                    .number(2, RANGE_EQ)
                    .data(3, from)
                    .data(4, to),
            ),
            Self::Lookup(set, id, reg) => {
                let lookup = start.text(1, set).number(2, reg.number());
                (
                    "lookup",
                    id.map_or(lookup.clone(), |id| lookup.number(4, id)),
                )
            }
            Self::Record(set, reg, timeout) => (
                "dynset",
                start
                    .text(1, set)
                    .number(3, DYNSET_UPDATE)
                    .number(4, reg.number())
                    .long(6, *timeout),
            ),
            Self::Counter => ("counter", start.long(1, 0).long(2, 0)),
            Self::Verdict(jump) => {
                let code = |code: i32| Attributes::default().bytes(1, &code.to_be_bytes());
                let verdict = match jump {
                    Jump::Accept => code(NF_ACCEPT),
                    Jump::Drop => code(NF_DROP),
                    Jump::Chain(chain) => code(NFT_GOTO).text(2, chain),
                };
                (
                    "immediate",
                    start
                        .number(1, REG_VERDICT)
                        .nest(2, &Attributes::default().nest(2, &verdict)),
                )
            }
        }
    }
}

fn load(source: Source, reg: Reg) -> (&'static str, Attributes) {
    let start = Attributes::default();
    let meta = |key| {
        (
            "meta",
            Attributes::default().number(1, reg.number()).number(2, key),
        )
    };
    let payload = |base, offset, length| {
        let start = Attributes::default()
            .number(1, reg.number())
            .number(2, base);
        ("payload", start.number(3, offset).number(4, length))
    };
    match source {
        Source::EtherType => meta(META_PROTOCOL),
        Source::InName => meta(META_IIFNAME),
        Source::Protocol => meta(META_L4PROTO),
        Source::Network(offset, length) => payload(BASE_NETWORK, offset, length),
        Source::Transport(offset, length) => payload(BASE_TRANSPORT, offset, length),
        Source::Fragment(offset, length) => {
            let header = start.number(1, reg.number()).bytes(2, &[FRAGMENT_HEADER]);
            ("exthdr", header.number(3, offset).number(4, length))
        }
    }
}
