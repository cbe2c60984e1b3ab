//! From the rules of a filter to the kernel's: pure, so that it can be read and tested without a
//! kernel.
//!
//! A rule becomes at most one kernel rule an address family; what an allowed packet leaves behind
//! is the business of a second chain, the same for all.

use std::net::IpAddr;

use ipnet::IpNet;
use nsm_model::filter::{Direction, FilterRules, Ports, Rule, Verdict};

use super::counters::Subject;
use super::expr::{Expr, Jump, Reg, Source};
use super::flow::{Discriminator, Family, key, record};
use super::{ALLOW_CHAIN, CHAIN, CLIENT_PORTS, ENDPOINT_PORTS};

/// Ethernet type of ARP.
const ARP: [u8; 2] = [0x08, 0x06];
/// IANA numbers of the protocols that begin with two ports: TCP, UDP, SCTP.
const WITH_PORTS: [u8; 3] = [6, 17, 132];
/// Of these, the ones a rule with ports and no protocol is about.
const TCP_UDP: [u8; 2] = [6, 17];
/// ICMPv6 neighbour solicitation and advertisement (RFC 4861). Router advertisements are not
/// address resolution.
const NEIGHBOUR: (u8, u8) = (135, 136);
/// ICMP type of an exceeded time and of a wrong parameter (RFC 792); their ICMPv6 kin are in one
/// range with the rest.
const V4_ERRORS_TOO: (u8, u8) = (11, 12);
/// Identifiers of anonymous sets within a batch begin here.
const FIRST_ID: u32 = 100;

/// A set without a name, of intervals: the first value of each, and the first value behind it
/// unless it is the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AnonymousSet {
    pub(super) id: u32,
    pub(super) key_length: usize,
    pub(super) intervals: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// One rule of the kernel's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KernelRule {
    pub(super) chain: &'static str,
    pub(super) subject: Option<Subject>,
    pub(super) exprs: Vec<Expr>,
}

/// The kernel's rules in order, and the sets they look into.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lowered {
    pub(super) sets: Vec<AnonymousSet>,
    pub(super) rules: Vec<KernelRule>,
}

pub(super) fn lower(rules: &FilterRules) -> Lowered {
    let mut lowered = Lowered::default();
    lowered.always();
    Family::BOTH
        .into_iter()
        .for_each(|family| lowered.replies(family));
    for (index, rule) in rules.rules.iter().enumerate() {
        Family::BOTH
            .into_iter()
            .for_each(|family| lowered.rule(index, rule, family));
    }
    lowered.push(
        CHAIN,
        Some(Subject::Default),
        decide(Vec::new(), rules.default),
    );
    Family::BOTH
        .into_iter()
        .for_each(|family| lowered.allow(family));
    // What is neither IPv4 nor IPv6 has no flow to record.
    let mut other = vec![Expr::Load(Source::EtherType, Reg::MATCH)];
    other.extend(
        Family::BOTH.map(|family| Expr::Compare(Reg::MATCH, false, family.ether_type().to_vec())),
    );
    other.push(Expr::Verdict(Jump::Accept));
    lowered.push(ALLOW_CHAIN, None, other);
    lowered
}

impl Lowered {
    fn push(&mut self, chain: &'static str, subject: Option<Subject>, exprs: Vec<Expr>) {
        self.rules.push(KernelRule {
            chain,
            subject,
            exprs,
        });
    }

    /// What passes whatever the rules say: address resolution, errors, fragments after the first
    /// (which was judged).
    fn always(&mut self) {
        let accept = |mut exprs: Vec<Expr>| {
            exprs.push(Expr::Verdict(Jump::Accept));
            exprs
        };
        self.push(CHAIN, None, accept(equal(Source::EtherType, &ARP)));
        let types = [
            (Family::V6, NEIGHBOUR),
            (Family::V4, Family::V4.errors()),
            (Family::V4, V4_ERRORS_TOO),
            (Family::V6, Family::V6.errors()),
        ];
        for (family, (first, last)) in types {
            let mut exprs = protocol(family, family.icmp());
            exprs.push(Expr::Load(Source::Transport(0, 1), Reg::MATCH));
            exprs.push(Expr::Range(Reg::MATCH, vec![first], vec![last]));
            self.push(CHAIN, None, accept(exprs));
        }
        let offsets = [
            (Family::V4, Source::Network(6, 2), [0x1f, 0xff]),
            (Family::V6, Source::Fragment(2, 2), [0xff, 0xf8]),
        ];
        for (family, source, mask) in offsets {
            let mut exprs = equal(Source::EtherType, &family.ether_type());
            exprs.push(Expr::Load(source, Reg::MATCH));
            exprs.push(Expr::Mask(Reg::MATCH, mask.to_vec()));
            exprs.push(Expr::Compare(Reg::MATCH, false, vec![0, 0]));
            self.push(CHAIN, None, accept(exprs));
        }
    }

    /// A packet of the reverse of a recorded flow passes and renews it.
    fn replies(&mut self, family: Family) {
        for (mut exprs, discriminator) in classes(family, family.echo().1) {
            exprs.extend(key(family, discriminator, true));
            exprs.extend([Expr::Lookup(family.set(), None, Reg(0)), record(family)]);
            exprs.extend([Expr::Counter, Expr::Verdict(Jump::Accept)]);
            self.push(CHAIN, Some(Subject::Replies), exprs);
        }
    }

    /// Where allowed packets end: their flow is recorded. One that finds no room is dropped at the
    /// chain's end.
    fn allow(&mut self, family: Family) {
        for (mut exprs, discriminator) in classes(family, family.echo().0) {
            exprs.extend(key(family, discriminator, false));
            exprs.extend([record(family), Expr::Verdict(Jump::Accept)]);
            self.push(ALLOW_CHAIN, None, exprs);
        }
        // ICMP that asks for nothing has no replies.
        let mut exprs = protocol(family, family.icmp());
        exprs.push(Expr::Load(Source::Transport(0, 1), Reg::MATCH));
        exprs.push(Expr::Compare(Reg::MATCH, false, vec![family.echo().0]));
        exprs.push(Expr::Verdict(Jump::Accept));
        self.push(ALLOW_CHAIN, None, exprs);
    }

    fn rule(&mut self, index: usize, rule: &Rule, family: Family) {
        let (from, to) = (of_family(&rule.from, family), of_family(&rule.to, family));
        let never = |wanted: &[IpNet], left: &[IpNet]| !wanted.is_empty() && left.is_empty();
        if never(&rule.from, &from) || never(&rule.to, &to) {
            return;
        }
        for number in numbers(rule, family) {
            let mut exprs = match rule.direction {
                Direction::Any => Vec::new(),
                Direction::FromClient => inbound(CLIENT_PORTS),
                Direction::FromEndpoint => inbound(ENDPOINT_PORTS),
            };
            exprs.extend(equal(Source::EtherType, &family.ether_type()));
            if let Some(number) = number {
                exprs.extend(equal(Source::Protocol, &[number]));
            }
            for (source, prefixes) in [(family.source(), &from), (family.destination(), &to)] {
                let intervals = prefixes.iter().map(interval).collect();
                exprs.extend(self.within(source, usize::from(family.address_length()), intervals));
            }
            exprs.extend(self.within(Source::Transport(2, 2), 2, ports(&rule.ports)));
            self.push(
                CHAIN,
                Some(Subject::Rule(index)),
                decide(exprs, rule.verdict),
            );
        }
    }

    /// Matches a value that lies in one of the intervals (both ends included, ascending, apart);
    /// anything without one.
    fn within(
        &mut self,
        source: Source,
        key_length: usize,
        intervals: Vec<(Vec<u8>, Vec<u8>)>,
    ) -> Vec<Expr> {
        let everything = |(first, last): &(Vec<u8>, Vec<u8>)| {
            first.iter().all(|byte| *byte == 0) && last.iter().all(|byte| *byte == 0xff)
        };
        if intervals.is_empty() || intervals.iter().any(everything) {
            return Vec::new();
        }
        let load = Expr::Load(source, Reg::MATCH);
        if let [(first, last)] = intervals.as_slice() {
            return vec![load, Expr::Range(Reg::MATCH, first.clone(), last.clone())];
        }
        let id = FIRST_ID + u32::try_from(self.sets.len()).unwrap_or(u32::MAX - FIRST_ID);
        let intervals = intervals
            .into_iter()
            .map(|(first, last)| (first, successor(last)))
            .collect();
        self.sets.push(AnonymousSet {
            id,
            key_length,
            intervals,
        });
        vec![load, Expr::Lookup(AnonymousSet::NAME, Some(id), Reg::MATCH)]
    }
}

impl AnonymousSet {
    /// The kernel puts a number for the last two characters.
    pub(super) const NAME: &'static str = "__set%d";
}

fn equal(source: Source, value: &[u8]) -> Vec<Expr> {
    vec![
        Expr::Load(source, Reg::MATCH),
        Expr::Compare(Reg::MATCH, true, value.to_vec()),
    ]
}

fn protocol(family: Family, number: u8) -> Vec<Expr> {
    let mut exprs = equal(Source::EtherType, &family.ether_type());
    exprs.extend(equal(Source::Protocol, &[number]));
    exprs
}

fn inbound(set: &'static str) -> Vec<Expr> {
    vec![
        Expr::Load(Source::InName, Reg::MATCH),
        Expr::Lookup(set, None, Reg::MATCH),
    ]
}

fn decide(mut exprs: Vec<Expr>, verdict: Verdict) -> Vec<Expr> {
    exprs.push(Expr::Counter);
    exprs.push(Expr::Verdict(match verdict {
        Verdict::Allow => Jump::Chain(ALLOW_CHAIN),
        Verdict::Deny => Jump::Drop,
    }));
    exprs
}

/// How flows are told apart, by protocol. The last class excludes the others: a header cut short
/// falls in none.
fn classes(family: Family, echo: u8) -> Vec<(Vec<Expr>, Discriminator)> {
    let mut classes: Vec<_> = WITH_PORTS
        .iter()
        .map(|number| (protocol(family, *number), Discriminator::Ports))
        .collect();
    let mut echoes = protocol(family, family.icmp());
    echoes.extend(equal(Source::Transport(0, 1), &[echo]));
    classes.push((echoes, Discriminator::EchoId));
    let mut others = equal(Source::EtherType, &family.ether_type());
    others.push(Expr::Load(Source::Protocol, Reg::MATCH));
    let known = WITH_PORTS.into_iter().chain([family.icmp()]);
    others.extend(known.map(|number| Expr::Compare(Reg::MATCH, false, vec![number])));
    classes.push((others, Discriminator::Nothing));
    classes
}

/// The protocol numbers a rule is lowered for in a family: `None` stands for any.
fn numbers(rule: &Rule, family: Family) -> Vec<Option<u8>> {
    let other = Family::BOTH
        .into_iter()
        .find(|other| *other != family)
        .map(Family::icmp);
    match rule.protocol.number() {
        number if number.is_some() && number == other => Vec::new(),
        None if !rule.ports.is_empty() => TCP_UDP.map(Some).to_vec(),
        number => vec![number],
    }
}

fn of_family(prefixes: &[IpNet], family: Family) -> Vec<IpNet> {
    let same = |net: &&IpNet| matches!(net.addr(), IpAddr::V4(_)) == (family == Family::V4);
    let mut nets = IpNet::aggregate(&prefixes.iter().filter(same).copied().collect());
    nets.sort();
    nets
}

fn interval(net: &IpNet) -> (Vec<u8>, Vec<u8>) {
    let bytes = |address| match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    (bytes(net.network()), bytes(net.broadcast()))
}

/// Joined and in ascending order, as an interval set wants them.
fn ports(ports: &[Ports]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut sorted: Vec<(u16, u16)> = ports
        .iter()
        .filter(|p| p.first <= p.last)
        .map(|p| (p.first, p.last))
        .collect();
    sorted.sort_unstable();
    let mut joined: Vec<(u16, u16)> = Vec::new();
    for (first, last) in sorted {
        match joined.last_mut() {
            Some(before) if u32::from(first) <= u32::from(before.1) + 1 => {
                before.1 = before.1.max(last)
            }
            _ => joined.push((first, last)),
        }
    }
    joined
        .into_iter()
        .map(|(first, last)| (first.to_be_bytes().to_vec(), last.to_be_bytes().to_vec()))
        .collect()
}

/// The value after this one; none after the last.
fn successor(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    for byte in bytes.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            return Some(bytes);
        }
    }
    None
}

#[cfg(test)]
mod tests;
