//! Settings from flags, environment and a YAML file, in this order, into one typed struct.

use std::{collections::BTreeMap, ffi::OsString, fs, path::PathBuf};

use anyhow::{Context as _, bail};
use clap::{ArgAction, Command, FromArgMatches};
use serde::Deserialize;

/// The flag and the variable that name the file.
pub(crate) const FLAG: &str = "config";
const VARIABLE: &str = "NSM_CONFIG";

/// What a setting may be in the file.
#[derive(Debug, Clone, Deserialize)]
#[serde(
    untagged,
    expecting = "a setting is a text, a number, true or false, a list or a mapping of these"
)]
enum Value {
    Bool(bool),
    Integer(i64),
    Text(String),
    List(Vec<Scalar>),
    Map(BTreeMap<String, Scalar>),
}

/// An entry of a list or a map.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Scalar {
    Bool(bool),
    Integer(i64),
    Text(String),
}

impl Scalar {
    fn text(&self) -> String {
        match self {
            Self::Bool(value) => value.to_string(),
            Self::Integer(value) => value.to_string(),
            Self::Text(value) => value.clone(),
        }
    }
}

impl Value {
    /// As it would stand in the environment: lists and maps by commas.
    fn text(&self) -> String {
        match self {
            Self::Bool(value) => value.to_string(),
            Self::Integer(value) => value.to_string(),
            Self::Text(value) => value.clone(),
            Self::List(values) => values
                .iter()
                .map(Scalar::text)
                .collect::<Vec<_>>()
                .join(","),
            Self::Map(values) => values
                .iter()
                .map(|(key, value)| format!("{key}:{}", value.text()))
                .collect::<Vec<_>>()
                .join(","),
        }
    }
}

/// Parses the command line; the settings of the named file are the defaults of the subcommand.
pub(crate) fn parse<T: FromArgMatches>(
    command: Command,
    arguments: &[OsString],
    variable: impl Fn(&str) -> Option<OsString>,
) -> anyhow::Result<Result<T, clap::Error>> {
    let Some(path) = file(arguments, variable) else {
        return Ok(read(command, arguments));
    };
    let text = fs::read_to_string(&path)
        .with_context(|| format!("--config {}: cannot be read", path.display()))?;
    let settings: BTreeMap<String, Value> = serde_saphyr::from_str(&text).map_err(|error| {
        anyhow::anyhow!(
            "--config {}: not a mapping of settings: {}",
            path.display(),
            headline(&error.to_string())
        )
    })?;
    let Some(role) = arguments
        .iter()
        .skip(1)
        .filter_map(|argument| argument.to_str())
        .find(|argument| command.find_subcommand(argument).is_some())
    else {
        return Ok(read(command, arguments));
    };
    let role = role.to_owned();
    let known: Vec<String> = command
        .find_subcommand(&role)
        .into_iter()
        .flat_map(|found| {
            found
                .get_arguments()
                .map(|argument| argument.get_id().to_string())
        })
        .collect();
    let mut filled = command;
    for (name, value) in &settings {
        let id = name.replace('-', "_");
        if !known.contains(&id) || id == FLAG {
            bail!(
                "--config {}: {name:?} is no setting of `nsm {role}`; its settings are {}",
                path.display(),
                known.join(", ")
            );
        }
        let text = value.text();
        let switch = filled
            .find_subcommand(&role)
            .and_then(|found| {
                found
                    .get_arguments()
                    .find(|argument| argument.get_id() == id.as_str())
            })
            .is_some_and(|argument| matches!(argument.get_action(), ArgAction::SetTrue));
        if switch && text != "true" && text != "false" {
            bail!(
                "--config {}: {name}: {text:?} is neither true nor false",
                path.display()
            );
        }
        filled = filled.mut_subcommand(&role, |subcommand| {
            subcommand.mut_arg(&id, |argument| {
                if !matches!(argument.get_action(), ArgAction::SetTrue) {
                    return argument.required(false).default_value(text.clone());
                }
                if text == "true" {
                    argument.default_value("true")
                } else {
                    argument
                }
            })
        });
    }
    Ok(read(filled, arguments))
}

/// Its first line has the place and the reason; the rest draws the place.
fn headline(text: &str) -> &str {
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line)
}

fn read<T: FromArgMatches>(command: Command, arguments: &[OsString]) -> Result<T, clap::Error> {
    let mut shown = command.clone();
    command
        .try_get_matches_from(arguments)
        .and_then(|matches| T::from_arg_matches(&matches))
        .map_err(|error| error.format(&mut shown))
}

fn file(arguments: &[OsString], variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let flag = format!("--{FLAG}");
    let given = arguments.iter().enumerate().find_map(|(at, argument)| {
        let text = argument.to_str()?;
        match text.strip_prefix(&flag)? {
            "" => arguments.get(at + 1).cloned(),
            rest => rest.strip_prefix('=').map(OsString::from),
        }
    });
    given
        .or_else(|| variable(VARIABLE))
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
}

/// `k:v,k:v` or `k=v,k=v`, as upstream's `NSM_LABELS`.
pub(crate) fn labels(text: &str) -> Result<BTreeMap<String, String>, String> {
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (key, value) = part
                .split_once([':', '='])
                .ok_or_else(|| format!("{part:?} is no label: write name:value"))?;
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        })
        .collect()
}

/// Labels that are looked at when they are read, and kept as they are written.
pub(crate) fn written_labels(text: &str) -> Result<String, String> {
    labels(text).map(|_| text.to_owned())
}
/// The words of Go's `strconv.ParseBool`, by which the Go implementation's settings are read.
pub(crate) fn truth(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("write true or false".to_owned()),
    }
}
