//! One policy in Rego: the rule `valid` of one file.
//!
//! sdk `pkg/tools/opa/policy.go`: each file is a module alone, in the language's first version (no
//! `if` before a body), and its answer is the rule `valid` of its package.

use std::{num::NonZeroU32, time::Duration};

use regorus::{CompiledPolicy, Engine, utils::limits::ExecutionTimerConfig};
use serde_json::Value;

use crate::custom::Verdict;

mod builtins;

/// How long one policy may think: those of upstream take a tenth of a millisecond, and the caller
/// waits.
const THINKING_TIME: Duration = Duration::from_millis(250);
/// Steps between two looks at the clock.
const STEPS: NonZeroU32 = NonZeroU32::new(256).unwrap();

/// A policy that was read.
pub(crate) struct Policy {
    file: String,
    source: String,
    compiled: CompiledPolicy,
}

impl std::fmt::Debug for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Policy({})", self.file)
    }
}

/// Where something is wrong in a policy, and what.
pub(crate) struct Flaw {
    pub(crate) at: String,
    pub(crate) reason: String,
}

impl Policy {
    /// Reads a file's text, and asks it once about a path with everything in it: a policy that uses
    /// what is not there shall be refused now and not when the first caller comes.
    pub(crate) fn new(file: &str, source: &str) -> Result<Self, Flaw> {
        let compiled = compile(file, source).map_err(|error| flaw(file, &error))?;
        let policy = Self {
            file: file.to_owned(),
            source: source.to_owned(),
            compiled,
        };
        match policy.eval(&builtins::sample()) {
            Ok(_) => Ok(policy),
            Err(error) => Err(flaw(file, &error)),
        }
    }

    pub(crate) fn source(&self) -> &String {
        &self.source
    }

    pub(crate) fn check(&self, input: &Value) -> Result<(), Verdict> {
        let undecided = |at: String, reason: String| Verdict::Undecided { at, reason };
        match self.eval(input) {
            Ok(regorus::Value::Bool(true)) => Ok(()),
            Ok(regorus::Value::Bool(false)) => Err(Verdict::Denied(self.file.clone())),
            Ok(regorus::Value::Undefined) => {
                let reason = "its rule `valid` says nothing: give it a default";
                Err(undecided(self.file.clone(), reason.to_owned()))
            }
            Ok(_) => {
                let reason = "its rule `valid` is not a boolean";
                Err(undecided(self.file.clone(), reason.to_owned()))
            }
            Err(error) => {
                let flaw = flaw(&self.file, &error);
                Err(undecided(flaw.at, flaw.reason))
            }
        }
    }

    fn eval(&self, input: &Value) -> Result<regorus::Value, String> {
        let input = serde_json::from_value(input.clone()).map_err(|error| error.to_string())?;
        let answer = self.compiled.eval_with_input(input);
        answer.map_err(|error| format!("{error:#}"))
    }
}

fn compile(file: &str, source: &str) -> Result<CompiledPolicy, String> {
    let mut engine = Engine::new();
    engine.set_rego_v0(true);
    engine.set_execution_timer_config(ExecutionTimerConfig {
        limit: THINKING_TIME,
        check_interval: STEPS,
    });
    builtins::add(&mut engine)?;
    let package = engine.add_policy(file.to_owned(), source.to_owned());
    let package = package.map_err(|error| format!("{error:#}"))?;
    let compiled = engine.compile_with_entrypoint(&format!("{package}.valid").into());
    compiled.map_err(|error| format!("{error:#}"))
}

/// An error of the interpreter is a drawing of several lines: `--> FILE:LINE:COLUMN`, the line
/// itself, and `error: REASON`.
fn flaw(file: &str, text: &str) -> Flaw {
    let lines = || text.lines().map(str::trim);
    let at = lines().find_map(|line| line.strip_prefix("--> "));
    let mut reason = lines().filter_map(|line| line.strip_prefix("error: "));
    let first = || lines().find(|line| !line.is_empty()).unwrap_or("unknown");
    Flaw {
        at: at.unwrap_or(file).to_owned(),
        reason: reason.next_back().unwrap_or_else(first).to_owned(),
    }
}
