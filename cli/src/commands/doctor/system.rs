//! Checks of this machine: the domain's directory, limits, memory, the kernel.

use super::facts::{Facts, FolderIs, SocketIs};
use super::finding::{Finding, counted, or_ok};
use crate::output::data;

/// Below this free memory, publishing may find none.
const BYTES_FREE_MIN: u64 = 256 << 20;

/// File systems on which nobody is told who comes: NFS, SMB, CIFS, FUSE.
const REMOTE: [u64; 4] = [0x6969, 0x517b, 0xff53_4d42, 0x6573_5546];

/// The directory in which programs find each other.
pub(crate) fn directory(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "directory";
    let Some(path) = &facts.path else {
        let what = "programs on this system cannot share topics";
        return vec![Finding::problem(CHECK, what).advice("use Linux or macOS")];
    };
    let mut found = Vec::new();
    for (at, folder) in facts.folders.iter().enumerate() {
        let name = folder.path.display();
        // The base belongs to the system; the others are ours.
        let is_base = at == 0 && facts.folders.len() > 2;
        match &folder.is {
            FolderIs::Missing if is_base => found.push(
                Finding::problem(CHECK, format!("{name} does not exist"))
                    .advice("make it, or set or unset XDG_RUNTIME_DIR"),
            ),
            // Ours are made by the first that joins.
            FolderIs::Missing => {}
            FolderIs::Directory { .. } | FolderIs::Link if is_base => {}
            FolderIs::Link => found.push(
                Finding::problem(
                    CHECK,
                    format!("{name} is a symbolic link, which is not followed"),
                )
                .advice(format!("rm {name}")),
            ),
            FolderIs::NoDirectory => found.push(
                Finding::problem(CHECK, format!("{name} is not a directory"))
                    .advice(format!("rm {name}")),
            ),
            FolderIs::Unknown(why) => found.push(
                Finding::problem(CHECK, format!("{name} cannot be looked at: {why}"))
                    .advice("set XDG_RUNTIME_DIR to a directory of yours"),
            ),
            FolderIs::Directory { owner, .. } if *owner != facts.user => found.push(
                Finding::problem(
                    CHECK,
                    format!(
                        "{name} belongs to user {owner}, and this is user {}",
                        facts.user
                    ),
                )
                .advice("set XDG_RUNTIME_DIR to a directory of yours"),
            ),
            FolderIs::Directory { mode, .. } if mode & 0o777 != 0o700 => found.push(
                Finding::problem(
                    CHECK,
                    format!("{name} has mode {mode:04o}, and must have 0700"),
                )
                .advice(format!("chmod 700 {name}")),
            ),
            FolderIs::Directory { .. } => {}
        }
    }
    or_ok(found, CHECK, path.display().to_string())
}

/// The file system of it.
pub(crate) fn file_system(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "file system";
    let Some(space) = &facts.space else {
        return Vec::new();
    };
    let mut found = Vec::new();
    if space.inodes_free == Some(0) || space.bytes_free == 0 {
        let what = "the file system of the domain's directory is full: nobody can join";
        found.push(
            Finding::problem(CHECK, what).advice("remove files there, or set XDG_RUNTIME_DIR"),
        );
    }
    if REMOTE.contains(&space.kind) {
        let what =
            "the domain's directory is on a remote file system, which does not tell who comes";
        found.push(
            Finding::warning(CHECK, what)
                .advice("set XDG_RUNTIME_DIR to a local one, as /run/user/ID"),
        );
    }
    or_ok(found, CHECK, format!("{} free", data(space.bytes_free)))
}

/// Sockets whose process is dead.
pub(crate) fn sockets(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "sockets";
    let mut found = Vec::new();
    for socket in &facts.sockets {
        match socket.is {
            SocketIs::Stale if socket.is_left => found.push(
                Finding::warning(
                    CHECK,
                    format!(
                        "process {} has ended and its socket {} is still there",
                        socket.pid, socket.name
                    ),
                )
                .advice("any program that joins removes it; if none can, remove it by hand"),
            ),
            SocketIs::Stale => found.push(Finding::note(
                CHECK,
                format!(
                    "process {} was killed and had left its socket, which has been removed now",
                    socket.pid
                ),
            )),
            SocketIs::Busy => found.push(
                Finding::warning(
                    CHECK,
                    format!("process {} does not take connections now", socket.pid),
                )
                .advice("see whether it is stopped: ps -o pid,stat,cmd"),
            ),
            SocketIs::Listening | SocketIs::Unknown => {}
        }
    }
    if facts.unfinished > 0 {
        found.push(Finding::note(
            CHECK,
            format!(
                "{} of processes that were killed while they started, or start just now; the next that joins removes them",
                counted(facts.unfinished as u64, "name")
            ),
        ));
    }
    let count = facts
        .sockets
        .iter()
        .filter(|socket| socket.is == SocketIs::Listening)
        .count();
    or_ok(found, CHECK, format!("{count} listen, none is stale"))
}

/// Where else programs are.
pub(crate) fn other_domains(facts: &Facts) -> Vec<Finding> {
    let lively = facts
        .other_domains
        .iter()
        .filter(|other| other.listening > 0);
    lively
        .map(|other| {
            Finding::note(
                "other domains",
                format!(
                    "{} in domain {:?}",
                    counted(other.listening as u64, "node"),
                    other.name
                ),
            )
            .advice(format!(
                "to look at them: mproc --domain {} list",
                other.name
            ))
        })
        .collect()
}

/// Descriptors, mappings, files.
pub(crate) fn limits(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "limits";
    let limits = &facts.limits;
    let mut found = Vec::new();
    if let Some(soft) = limits.descriptors_soft.filter(|soft| *soft < 1024) {
        let most = limits
            .descriptors_hard
            .map_or_else(|| "unlimited".to_owned(), |hard| hard.to_string());
        found.push(
            Finding::warning(
                CHECK,
                format!("a process may have {soft} descriptors; each peer and topic needs some"),
            )
            .advice(format!("ulimit -n 4096 (at most {most})")),
        );
    }
    if let Some(maps) = limits.maps_max.filter(|maps| *maps < 65_530) {
        found.push(
            Finding::warning(
                CHECK,
                format!("a process may have {maps} mappings (vm.max_map_count)"),
            )
            .advice("sysctl vm.max_map_count=65530"),
        );
    }
    if let (Some(open), Some(max)) = (limits.files_open, limits.files_max)
        && open.saturating_mul(10) > max.saturating_mul(9)
    {
        found.push(
            Finding::warning(
                CHECK,
                format!("{open} of {max} files of the system are open"),
            )
            .advice("raise fs.file-max, or end what has so many open"),
        );
    }
    if let Some(instances) = limits.inotify_instances_max.filter(|n| *n < 64) {
        found.push(
            Finding::warning(
                CHECK,
                format!("a user may have {instances} inotify instances; each node needs one"),
            )
            .advice("sysctl fs.inotify.max_user_instances=128"),
        );
    }
    if let Some(bytes) = limits.address_space.filter(|bytes| *bytes < 4 << 30) {
        found.push(
            Finding::warning(
                CHECK,
                format!("a process may have {} of addresses", data(bytes)),
            )
            .advice("ulimit -v unlimited"),
        );
    }
    let descriptors = limits
        .descriptors_soft
        .map_or_else(|| "unlimited".to_owned(), |soft| soft.to_string());
    or_ok(found, CHECK, format!("{descriptors} descriptors"))
}

/// What there is for topics' values.
pub(crate) fn memory(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "memory";
    let memory = &facts.memory;
    let mut found = Vec::new();
    if let Some(available) = memory.bytes_available
        && available < BYTES_FREE_MIN
    {
        found.push(
            Finding::warning(CHECK, format!("{} of memory are left", data(available)))
                .advice("end what needs much; publishing may find no memory"),
        );
    }
    if let (Some(max), Some(used)) = (memory.group_bytes_max, memory.group_bytes_used)
        && used.saturating_mul(10) > max.saturating_mul(9)
    {
        found.push(
            Finding::warning(
                CHECK,
                format!(
                    "the control group has used {} of its {}; shared memory counts",
                    data(used),
                    data(max)
                ),
            )
            .advice("raise memory.max of the container or unit"),
        );
    }
    let available = memory
        .bytes_available
        .map_or_else(|| "an unknown amount".to_owned(), data);
    or_ok(found, CHECK, format!("{available} available"))
}

/// What the kernel must be able to do.
pub(crate) fn kernel(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "kernel";
    let kernel = &facts.kernel;
    let needs = [
        (
            &kernel.memfd,
            "sealed memory (memfd_create)",
            "allow it in the sandbox; without it values cannot be shared",
        ),
        (
            &kernel.pidfd,
            "process descriptors (pidfd_open)",
            "use Linux 5.3 or later, or allow it in the sandbox",
        ),
        (
            &kernel.inotify,
            "watches of directories (inotify)",
            "raise fs.inotify.max_user_instances, or end programs",
        ),
    ];
    let found = needs.into_iter().filter_map(|(why, what, advice)| {
        let why = why.as_ref()?;
        Some(Finding::problem(CHECK, format!("no {what}: {why}")).advice(advice))
    });
    or_ok(found.collect(), CHECK, kernel.release.clone())
}
