//! What `doctor` judges: gathered in one place, so that the checks are functions of it and of nothing else.

use super::probes::{kernel, socket_is};
use crate::arguments::Arguments as Global;
use crate::failure::Outcome;
use crate::session::Session;
use crate::world::World;
use mproc::DomainOptions;
use rustix::process::Resource;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// All of it. What could not be found out is `None`, or says why.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) domain: String,
    /// Of this command.
    pub(crate) version: String,
    /// `None` where processes cannot share topics.
    pub(crate) path: Option<PathBuf>,
    pub(crate) user: u32,
    /// The domain's directory, and those above it that are ours.
    pub(crate) folders: Vec<Folder>,
    pub(crate) sockets: Vec<Socket>,
    /// Names that processes left which were killed while they started.
    pub(crate) unfinished: usize,
    pub(crate) space: Option<Space>,
    pub(crate) other_domains: Vec<OtherDomain>,
    pub(crate) limits: Limits,
    pub(crate) memory: Memory,
    pub(crate) kernel: Kernel,
    /// What the programs of the domain say, or why they could not be asked.
    pub(crate) world: Result<World, String>,
    /// Of each silent node's process: its state, as `/proc` has it. `None` if there is no such process.
    pub(crate) process_states: BTreeMap<u32, Option<char>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    pub(crate) is: FolderIs,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FolderIs {
    Missing,
    Link,
    NoDirectory,
    Directory {
        owner: u32,
        mode: u32,
    },
    /// It could not be looked at.
    Unknown(String),
}

/// What is found at a socket's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketIs {
    Listening,
    /// Nobody listens: its process has ended.
    Stale,
    /// It does not take connections now.
    Busy,
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Socket {
    pub(crate) pid: u32,
    pub(crate) name: String,
    pub(crate) is: SocketIs,
    /// True if it is there still after this command has joined.
    pub(crate) is_left: bool,
}

/// The file system of the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    pub(crate) bytes_free: u64,
    /// `None` if the file system does not count them.
    pub(crate) inodes_free: Option<u64>,
    /// The magic number of its type.
    pub(crate) kind: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OtherDomain {
    pub(crate) name: String,
    pub(crate) listening: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Descriptors of one process; `None` is no limit.
    pub(crate) descriptors_soft: Option<u64>,
    pub(crate) descriptors_hard: Option<u64>,
    /// Open files of the whole system, and how many there may be.
    pub(crate) files_open: Option<u64>,
    pub(crate) files_max: Option<u64>,
    /// Mappings of one process.
    pub(crate) maps_max: Option<u64>,
    /// Watches of directories that one user may have.
    pub(crate) inotify_instances_max: Option<u64>,
    /// Bytes of address space of one process; `None` is no limit.
    pub(crate) address_space: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) bytes_total: Option<u64>,
    pub(crate) bytes_available: Option<u64>,
    /// Of the control group; `None` if it has no limit.
    pub(crate) group_bytes_max: Option<u64>,
    pub(crate) group_bytes_used: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kernel {
    pub(crate) release: String,
    /// Why it does not work, for each that is needed; `None` if it works.
    pub(crate) memfd: Option<String>,
    pub(crate) pidfd: Option<String>,
    pub(crate) inotify: Option<String>,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            domain: String::new(),
            version: String::new(),
            path: None,
            user: 0,
            folders: Vec::new(),
            sockets: Vec::new(),
            unfinished: 0,
            space: None,
            other_domains: Vec::new(),
            limits: Limits::default(),
            memory: Memory::default(),
            kernel: Kernel::default(),
            world: Err("nobody was asked".to_owned()),
            process_states: BTreeMap::new(),
        }
    }
}

impl Facts {
    /// Looks at the system and at the directory first, and then joins the domain, which changes it: stale sockets are removed
    /// by whoever joins.
    pub(crate) fn gather(global: &Global) -> Outcome<Self> {
        let path = DomainOptions::new(&global.domain)?.path();
        let mut facts = Self {
            domain: global.domain.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            user: rustix::process::geteuid().as_raw(),
            limits: limits(),
            memory: memory(),
            kernel: kernel(),
            ..Self::default()
        };
        if let Some(path) = &path {
            facts.look_at(path);
        }
        let session = Session::join(global);
        let world = session
            .as_ref()
            .map_err(|failure| failure.text().to_owned())
            .and_then(|session| session.look().map_err(|failure| failure.text().to_owned()));
        if let Ok(world) = &world {
            for silent in &world.silent {
                let state = process_state(silent.pid);
                facts.process_states.insert(silent.pid, state);
            }
        }
        facts.world = world;
        if let Some(path) = &path {
            for socket in &mut facts.sockets {
                socket.is_left = path.join(&socket.name).symlink_metadata().is_ok();
            }
        }
        facts.path = path;
        Ok(facts)
    }

    fn look_at(&mut self, path: &Path) {
        let base = path.parent().and_then(Path::parent);
        // From the outermost on: what is wrong with one explains what cannot be seen of the next.
        for folder in [base, path.parent(), Some(path)].into_iter().flatten() {
            self.folders.push(Folder {
                path: folder.to_owned(),
                is: folder_is(folder),
            });
        }
        let (sockets, unfinished) = sockets_in(path);
        self.sockets = sockets;
        self.unfinished = unfinished;
        self.space = [Some(path), base].into_iter().flatten().find_map(space);
        let Some(above) = path.parent() else {
            return;
        };
        for entry in fs::read_dir(above).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == self.domain || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let (sockets, _) = sockets_in(&entry.path());
            let listening = sockets
                .iter()
                .filter(|socket| socket.is == SocketIs::Listening)
                .count();
            self.other_domains.push(OtherDomain { name, listening });
        }
        self.other_domains.sort_by(|a, b| a.name.cmp(&b.name));
    }
}

fn folder_is(path: &Path) -> FolderIs {
    match path.symlink_metadata() {
        Ok(data) if data.file_type().is_symlink() => FolderIs::Link,
        Ok(data) if !data.is_dir() => FolderIs::NoDirectory,
        Ok(data) => FolderIs::Directory {
            owner: data.uid(),
            mode: data.mode() & 0o7777,
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => FolderIs::Missing,
        Err(error) => FolderIs::Unknown(error.to_string()),
    }
}

/// The sockets in a directory, and how many names there are of some that were never finished.
fn sockets_in(path: &Path) -> (Vec<Socket>, usize) {
    let mut found = Vec::new();
    let mut unfinished = 0;
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') && name.ends_with(".new") {
            unfinished += 1;
        }
        let pid = name
            .strip_suffix(".sock")
            .and_then(|name| name.split_once('-'))
            .and_then(|(pid, _)| pid.parse().ok());
        if let Some(pid) = pid {
            found.push(Socket {
                pid,
                is: socket_is(path, &name),
                name,
                is_left: true,
            });
        }
    }
    found.sort_by(|a, b| (a.pid, &a.name).cmp(&(b.pid, &b.name)));
    (found, unfinished)
}

fn space(path: &Path) -> Option<Space> {
    let stat = rustix::fs::statvfs(path).ok()?;
    #[cfg(target_os = "linux")]
    let kind = rustix::fs::statfs(path).map_or(0, |stat| stat.f_type as u64);
    #[cfg(not(target_os = "linux"))]
    let kind = 0;
    Some(Space {
        bytes_free: stat.f_bavail.saturating_mul(stat.f_frsize),
        inodes_free: (stat.f_files > 0).then_some(stat.f_favail),
        kind,
    })
}

/// The first number in a file.
fn number(path: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

fn limits() -> Limits {
    let descriptors = rustix::process::getrlimit(Resource::Nofile);
    Limits {
        descriptors_soft: descriptors.current,
        descriptors_hard: descriptors.maximum,
        files_open: number("/proc/sys/fs/file-nr"),
        files_max: number("/proc/sys/fs/file-max"),
        maps_max: number("/proc/sys/vm/max_map_count"),
        inotify_instances_max: number("/proc/sys/fs/inotify/max_user_instances"),
        address_space: rustix::process::getrlimit(Resource::As).current,
    }
}

fn memory() -> Memory {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
        Some(kib.saturating_mul(1024))
    };
    let (group_bytes_max, group_bytes_used) = group_memory();
    Memory {
        bytes_total: field("MemTotal:"),
        bytes_available: field("MemAvailable:"),
        group_bytes_max,
        group_bytes_used,
    }
}

/// The tightest limit of the control group that this process is in, and of those above it.
fn group_memory() -> (Option<u64>, Option<u64>) {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let Some(group) = text.lines().find_map(|line| line.strip_prefix("0::/")) else {
        return (None, None);
    };
    let root = Path::new("/sys/fs/cgroup");
    let mut folder = root.join(group);
    let mut tightest = (None, None);
    while folder.starts_with(root) {
        let path = folder.join("memory.max");
        let limit = number(&path.to_string_lossy());
        if limit.is_some_and(|limit| tightest.0.is_none_or(|known| limit < known)) {
            let used = number(&folder.join("memory.current").to_string_lossy());
            tightest = (limit, used);
        }
        if !folder.pop() {
            break;
        }
    }
    tightest
}

/// As `/proc` has it: `T` is stopped. `None` if there is no such process.
fn process_state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name stands before it in brackets, and may have brackets in it.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.trim_start().chars().next()
}
