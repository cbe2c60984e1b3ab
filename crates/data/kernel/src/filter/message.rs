//! nf_tables messages (linux/netfilter/nf_tables.h): attributes in network byte order, nested.

use super::expr::Expr;
use super::flow::{FLOW_TIMEOUT_MS, FLOWS_MAX, Family};
use super::lower::AnonymousSet;

const NFT_MSG_NEWTABLE: u16 = 0;
const NFT_MSG_DELTABLE: u16 = 2;
const NFT_MSG_NEWCHAIN: u16 = 3;
const NFT_MSG_NEWRULE: u16 = 6;
const NFT_MSG_GETRULE: u16 = 7;
const NFT_MSG_DELRULE: u16 = 8;
const NFT_MSG_NEWSET: u16 = 9;
const NFT_MSG_NEWSETELEM: u16 = 12;
const NFT_MSG_DELSETELEM: u16 = 14;

const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;
const NLA_F_NESTED: u16 = 0x8000;

/// Hook number of bridged packets (NF_BR_FORWARD) and the priority of filtering there
/// (NF_BR_PRI_FILTER_BRIDGED).
const HOOK_FORWARD: u32 = 2;
const PRIORITY: i32 = -200;
const POLICY_DROP: u32 = 0;
const NFT_SET_ANONYMOUS: u32 = 0x1;
const NFT_SET_CONSTANT: u32 = 0x2;
const NFT_SET_INTERVAL: u32 = 0x4;
const NFT_SET_ELEM_INTERVAL_END: u32 = 0x1;
const NFT_SET_TIMEOUT: u32 = 0x10;
const NFT_SET_EVAL: u32 = 0x20;
/// User space's name for a key's type, which the kernel only stores: an interface name; nothing in
/// particular.
const TYPE_IFNAME: u32 = 41;
const TYPE_BYTES: u32 = 0;
/// Sets are numbered within a batch; those with a name are found by it.
const NAMED_ID: u32 = 1;

/// Attributes under construction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes(pub(super) Vec<u8>);

impl Attributes {
    pub(super) fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    pub(super) fn number(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub(super) fn long(self, kind: u16, value: u64) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub(super) fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    pub(super) fn nest(self, kind: u16, inner: &Self) -> Self {
        self.bytes(kind | NLA_F_NESTED, &inner.0)
    }

    /// A value as expressions and set elements hold it (NFTA_DATA_VALUE).
    pub(super) fn data(self, kind: u16, value: &[u8]) -> Self {
        self.nest(kind, &Self::default().bytes(1, value))
    }
}

/// One request of the nf_tables subsystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) attributes: Attributes,
}

impl Message {
    fn new(kind: u16, flags: u16, attributes: Attributes) -> Self {
        Self {
            kind,
            flags,
            attributes,
        }
    }

    pub(super) fn table(name: &str) -> Self {
        Self::new(
            NFT_MSG_NEWTABLE,
            NLM_F_CREATE,
            Attributes::default().text(1, name),
        )
    }

    pub(super) fn delete_table(name: &str) -> Self {
        Self::new(NFT_MSG_DELTABLE, 0, Attributes::default().text(1, name))
    }

    /// NFTA_SET_TABLE 1, NAME 2, FLAGS 3, KEY_TYPE 4, KEY_LEN 5, ID 10.
    fn set(table: &str, name: &str, flags: u32, kind: u32, length: usize, id: u32) -> Attributes {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let named = Attributes::default().text(1, table).text(2, name);
        named
            .number(3, flags)
            .number(4, kind)
            .number(5, length)
            .number(10, id)
    }

    pub(super) fn name_set(table: &str, name: &str, length: usize) -> Self {
        Self::new(
            NFT_MSG_NEWSET,
            NLM_F_CREATE,
            Self::set(table, name, 0, TYPE_IFNAME, length, NAMED_ID),
        )
    }

    /// A set that rules add to: NFTA_SET_DESC 9 holds its bound, NFTA_SET_TIMEOUT 11 the life of an
    /// element.
    pub(super) fn flow_set(table: &str, family: Family) -> Self {
        let set = Self::set(
            table,
            family.set(),
            NFT_SET_TIMEOUT | NFT_SET_EVAL,
            TYPE_BYTES,
            family.key_length(),
            NAMED_ID,
        );
        let set = set
            .nest(9, &Attributes::default().number(1, FLOWS_MAX))
            .long(11, FLOW_TIMEOUT_MS);
        Self::new(NFT_MSG_NEWSET, NLM_F_CREATE, set)
    }

    /// NFTA_CHAIN_TABLE 1, NAME 3, HOOK 4, POLICY 5, TYPE 7. What no rule decides is dropped: the
    /// last one decides.
    pub(super) fn forward_chain(table: &str, name: &str) -> Self {
        let hook = Attributes::default()
            .number(1, HOOK_FORWARD)
            .bytes(2, &PRIORITY.to_be_bytes());
        let chain = Attributes::default()
            .text(1, table)
            .text(3, name)
            .nest(4, &hook)
            .number(5, POLICY_DROP);
        Self::new(NFT_MSG_NEWCHAIN, NLM_F_CREATE, chain.text(7, "filter"))
    }

    /// A chain that only rules lead to.
    pub(super) fn chain(table: &str, name: &str) -> Self {
        Self::new(
            NFT_MSG_NEWCHAIN,
            NLM_F_CREATE,
            Attributes::default().text(1, table).text(3, name),
        )
    }

    /// A set without a name, which lives as long as the rule that looks into it.
    pub(super) fn anonymous_set(table: &str, set: &AnonymousSet) -> Self {
        let flags = NFT_SET_ANONYMOUS | NFT_SET_CONSTANT | NFT_SET_INTERVAL;
        let attributes = Self::set(
            table,
            AnonymousSet::NAME,
            flags,
            TYPE_BYTES,
            set.key_length,
            set.id,
        );
        Self::new(NFT_MSG_NEWSET, NLM_F_CREATE, attributes)
    }

    /// The intervals of a set without a name. NFTA_SET_ELEM_KEY 1, FLAGS 3;
    /// NFTA_SET_ELEM_LIST_SET_ID 4.
    pub(super) fn intervals(table: &str, set: &AnonymousSet) -> Self {
        let mut list = Attributes::default();
        for (first, behind) in &set.intervals {
            list = list.nest(1, &Attributes::default().data(1, first));
            if let Some(behind) = behind {
                let end = Attributes::default()
                    .number(3, NFT_SET_ELEM_INTERVAL_END)
                    .data(1, behind);
                list = list.nest(1, &end);
            }
        }
        let attributes = Attributes::default()
            .text(1, table)
            .text(2, AnonymousSet::NAME);
        Self::new(
            NFT_MSG_NEWSETELEM,
            NLM_F_CREATE,
            attributes.nest(3, &list).number(4, set.id),
        )
    }

    pub(super) fn empty_chain(table: &str, chain: &str) -> Self {
        Self::new(
            NFT_MSG_DELRULE,
            0,
            Attributes::default().text(1, table).text(2, chain),
        )
    }

    pub(super) fn get_rules(table: &str, chain: &str) -> Self {
        Self::new(
            NFT_MSG_GETRULE,
            0,
            Attributes::default().text(1, table).text(2, chain),
        )
    }

    /// NFTA_RULE_TABLE 1, CHAIN 2, EXPRESSIONS 4, USERDATA 7.
    pub(super) fn rule(
        table: &str,
        chain: &str,
        expressions: &[Expr],
        userdata: Option<&[u8]>,
    ) -> Self {
        let list = expressions
            .iter()
            .fold(Attributes::default(), |list, expr| {
                list.nest(1, &expr.attributes())
            });
        let rule = Attributes::default()
            .text(1, table)
            .text(2, chain)
            .nest(4, &list);
        let rule = userdata.map_or(rule.clone(), |mark| rule.bytes(7, mark));
        Self::new(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, rule)
    }

    /// NFTA_SET_ELEM_LIST_TABLE 1, SET 2, ELEMENTS 3.
    pub(super) fn element(table: &str, set: &str, key: &[u8], add: bool) -> Self {
        let list = Attributes::default().nest(1, &Attributes::default().data(1, key));
        let attributes = Attributes::default()
            .text(1, table)
            .text(2, set)
            .nest(3, &list);
        let (kind, flags) = if add {
            (NFT_MSG_NEWSETELEM, NLM_F_CREATE)
        } else {
            (NFT_MSG_DELSETELEM, 0)
        };
        Self::new(kind, flags, attributes)
    }
}

/// Splits attributes: kind without its flags, and value. What is cut short ends the list.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let &[l0, l1, k0, k1] = bytes.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((
            u16::from_ne_bytes([k0, k1]) & !(NLA_F_NESTED | 0x4000),
            value,
        ))
    })
}
