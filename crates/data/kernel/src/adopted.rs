//! What is found of a plan that should stand.

use std::collections::BTreeSet;

use nsm_plan::NetnsId;

/// What was found of a plan that should stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Adopted {
    /// All of it, as it should be. Nothing was touched.
    AsItWas,
    /// It stands again. What was put right, a line each for a log: `route net:[4026532301] nsm-1
    /// 10.0.0.0/32 link`.
    Repaired(Vec<String>),
    /// It cannot stand any more: these of its namespaces do not exist. Nothing was touched; what is
    /// left of it in others goes when the plan is undone.
    Gone(BTreeSet<NetnsId>),
}
