//! What there is of a lab on the machine.

use std::path::Path;

use crate::sys;

/// Every process of a lab's cells carries the lab's name in its environment under this key.
pub(crate) const LAB_VARIABLE: &str = "NSM_LAB";

/// Lines naming the processes, links, mounts and files of the lab.
pub(crate) fn find(id: &str, root: &Path, bridge: &str) -> Vec<String> {
    let mut found = processes(id);
    found.extend(links(bridge));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let root_text = root.to_string_lossy();
    found.extend(
        mounts
            .lines()
            .filter(|line| line.contains(&*root_text))
            .map(|line| format!("mount {line}")),
    );
    files(root, &mut found);
    found
}

/// Processes whose environment names the lab.
pub(crate) fn processes(id: &str) -> Vec<String> {
    let wanted = format!("{LAB_VARIABLE}={id}");
    let belongs = |pid: &u32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|entry| entry == wanted.as_bytes())
            && sys::runs(*pid)
    };
    let describe = |pid: u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        format!(
            "process {pid} {}",
            String::from_utf8_lossy(&line).replace('\0', " ").trim_end()
        )
    };
    sys::processes()
        .into_iter()
        .filter(belongs)
        .map(describe)
        .collect()
}

fn links(bridge: &str) -> Vec<String> {
    // Of the reading thread's namespace, unlike /sys, which shows the namespace of whoever mounted
    // it.
    let table = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    let ours = |name: &&str| {
        *name == bridge
            || name
                .strip_prefix(bridge)
                .is_some_and(|rest| rest.starts_with('.'))
    };
    let names = table
        .lines()
        .filter_map(|line| Some(line.split_once(':')?.0.trim()));
    names
        .filter(ours)
        .map(|name| format!("link {name}"))
        .collect()
}

fn files(path: &Path, found: &mut Vec<String>) {
    let Ok(metadata) = std::fs::symlink_metadata(path) else {
        return;
    };
    found.push(format!("file {}", path.display()));
    if metadata.is_dir()
        && let Ok(entries) = std::fs::read_dir(path)
    {
        entries
            .flatten()
            .for_each(|entry| files(&entry.path(), found));
    }
}
