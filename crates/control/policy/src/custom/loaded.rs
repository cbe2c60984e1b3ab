//! What is in force of a setting's files, and how that changes.

use std::{
    collections::BTreeMap,
    io::Read as _,
    path::Path,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use super::{LoadError, MAX_FILE_BYTES, MAX_FILES, Policies, Verdict};
use crate::{
    input::Input,
    mask::{self, Matcher},
    rego::Policy,
};

#[derive(Debug, Default)]
pub(super) struct Loaded {
    /// By file, in the order in which they are asked.
    force: RwLock<Arc<BTreeMap<String, Arc<Policy>>>>,
    /// What each file said when it was last looked at, so that a broken one is told of once.
    seen: Mutex<BTreeMap<String, Result<String, String>>>,
}

impl Loaded {
    /// All of them or none.
    pub(super) fn start(&self, of: &Policies) -> Result<(), LoadError> {
        let texts = look(of)?;
        let mut force = BTreeMap::new();
        for (file, text) in &texts {
            let policy = compile(of, file, text)?;
            force.insert(file.clone(), Arc::new(policy));
        }
        if !force.is_empty() {
            let files: Vec<&String> = force.keys().collect();
            tracing::info!(setting = of.setting, ?files, "policies in force");
        }
        self.replace(force);
        *self.seen() = texts;
        Ok(())
    }

    pub(super) fn reload(&self, of: &Policies) {
        if of.masks.is_empty() {
            return;
        }
        let mut seen = self.seen();
        let texts = match look(of) {
            Ok(texts) => texts,
            Err(error) => {
                // The whole setting is in doubt: all that was in force stays.
                let doubt = BTreeMap::from([(String::new(), Err(error.to_string()))]);
                if *seen != doubt {
                    tracing::error!(%error, "policies not read again; those before stay in force");
                    *seen = doubt;
                }
                return;
            }
        };
        if *seen == texts {
            return;
        }
        let before = self.force();
        let mut force = BTreeMap::new();
        for (file, text) in &texts {
            let known = before.get(file);
            match known.filter(|policy| text.as_ref() == Ok(policy.source())) {
                Some(policy) => {
                    force.insert(file.clone(), Arc::clone(policy));
                    continue;
                }
                None => match compile(of, file, text) {
                    Ok(policy) => {
                        tracing::info!(setting = of.setting, file, "policy read again: in force");
                        force.insert(file.clone(), Arc::new(policy));
                    }
                    Err(error) if seen.get(file) != Some(text) => {
                        let stays = known.is_some();
                        tracing::error!(%error, before_stays_in_force = stays, "policy refused");
                        force.extend(known.map(|policy| (file.clone(), Arc::clone(policy))));
                    }
                    Err(_) => {
                        force.extend(known.map(|policy| (file.clone(), Arc::clone(policy))));
                    }
                },
            }
        }
        for file in before.keys().filter(|file| !texts.contains_key(*file)) {
            tracing::warn!(
                setting = of.setting,
                file,
                "policy removed: no longer in force"
            );
        }
        self.replace(force);
        *seen = texts;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.force().is_empty()
    }

    pub(super) fn files(&self) -> Vec<String> {
        self.force().keys().cloned().collect()
    }

    pub(super) fn check(&self, input: &Input<'_>) -> Result<(), Verdict> {
        let force = self.force();
        if force.is_empty() {
            return Ok(());
        }
        let input = input.json();
        force.values().try_for_each(|policy| policy.check(&input))
    }

    fn force(&self) -> Arc<BTreeMap<String, Arc<Policy>>> {
        Arc::clone(&self.force.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, force: BTreeMap<String, Arc<Policy>>) {
        *self.force.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(force);
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Result<String, String>>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Texts = BTreeMap<String, Result<String, String>>;

/// What the files of a setting say, or why they cannot be read.
fn look(of: &Policies) -> Result<Texts, LoadError> {
    let mut texts = Texts::new();
    for mask in &of.masks {
        let files = mask::files::<Expression>(mask, &of.folder);
        for file in files.map_err(|error| of.mask_error(error))? {
            let text = read(&of.folder.join(&file));
            texts.insert(file.display().to_string(), text);
        }
    }
    if texts.len() > MAX_FILES {
        return Err(LoadError::TooMany {
            setting: of.setting.clone(),
            files: texts.len(),
            max: MAX_FILES,
        });
    }
    Ok(texts)
}

fn read(file: &Path) -> Result<String, String> {
    let open = std::fs::File::open(file).map_err(|error| error.to_string())?;
    let mut text = String::new();
    let read = open.take(MAX_FILE_BYTES + 1).read_to_string(&mut text);
    let bytes = read.map_err(|error| error.to_string())?;
    if bytes as u64 > MAX_FILE_BYTES {
        return Err(format!(
            "it is longer than the {MAX_FILE_BYTES} bytes that are read"
        ));
    }
    Ok(text)
}

fn compile(of: &Policies, file: &str, text: &Result<String, String>) -> Result<Policy, LoadError> {
    let broken = |at: String, reason: String| LoadError::Broken {
        setting: of.setting.clone(),
        at,
        reason,
    };
    match text {
        Ok(text) => Policy::new(file, text).map_err(|flaw| broken(flaw.at, flaw.reason)),
        Err(reason) => Err(broken(file.to_owned(), reason.clone())),
    }
}

struct Expression(regex::Regex);

impl Matcher for Expression {
    fn new(expression: &str) -> Result<Self, String> {
        let whole = regex::Regex::new(&format!("^(?:{expression})$"));
        whole.map(Self).map_err(|error| error.to_string())
    }

    fn matches(&self, path: &str) -> bool {
        self.0.is_match(path)
    }
}
