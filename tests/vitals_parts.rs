//! The parts of the `vitals` example that need no running node: the tests inside its files, and its two sources of figures
//! read from prepared directories.

#![allow(dead_code, reason = "the example uses the rest")]

#[path = "../examples/vitals/alarms.rs"]
mod alarms;
#[path = "../examples/vitals/csv.rs"]
mod csv;
#[path = "../examples/vitals/display.rs"]
mod display;
#[path = "../examples/vitals/figures.rs"]
mod figures;
#[path = "../examples/vitals/library.rs"]
mod library;
#[path = "../examples/vitals/meter.rs"]
mod meter;
#[path = "../examples/vitals/metric.rs"]
mod metric;
#[path = "../examples/vitals/rates.rs"]
mod rates;
#[path = "../examples/vitals/source.rs"]
mod source;
#[path = "../examples/vitals/window.rs"]
mod window;

use std::{fs, path::Path, time::Duration};

use source::{Origin, Source, Watch};
use tempfile::TempDir;

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A directory laid out like `/proc`, with the kept samples in it.
fn proc_of_samples() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| write(root.path(), name, text);
    put("stat", include_str!("../examples/vitals/samples/stat"));
    put(
        "meminfo",
        include_str!("../examples/vitals/samples/meminfo"),
    );
    put(
        "net/dev",
        include_str!("../examples/vitals/samples/net_dev"),
    );
    put(
        "diskstats",
        include_str!("../examples/vitals/samples/diskstats"),
    );
    put("42/stat", &process(42, "shell", 10));
    put("43/stat", &process(43, ") (", 20));
    put("44/stat", &process(44, "idle", 0));
    // Not a process, but its name begins like one.
    put("45x/stat", "nonsense");
    root
}

fn write(root: &Path, name: &str, text: impl AsRef<[u8]>) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn process(pid: u32, comm: &str, ticks: u64) -> String {
    format!("{pid} ({comm}) S 1 0 0 0 -1 0 0 0 0 0 {ticks} 0 0 0 20 0 1 0 5 4096 1\n")
}

fn source(root: &Path, pids: &[u32], busiest: usize) -> Source {
    let (origin, notice) = Origin::find(root, false);
    assert_eq!((&origin, notice), (&Origin::Proc(root.to_owned()), None));
    let watch = Watch {
        pids: pids.to_vec(),
        busiest,
        look_every: LOOK_EVERY,
    };
    Source::new(&origin, watch)
}

fn message<T: std::fmt::Debug>(result: Result<T, source::SourceError>) -> String {
    result.expect_err("the file is malformed").to_string()
}

fn pids(reading: &figures::Reading<figures::Processes>) -> Vec<u32> {
    let watched = reading.figures.watched.iter();
    watched.map(|process| process.pid).collect()
}

#[test]
fn a_prepared_directory_gives_its_figures() {
    let root = proc_of_samples();
    let mut source = source(root.path(), &[], 0);
    let at = Duration::from_millis(20);
    let cpu = source.cpu(at).unwrap();
    assert_eq!((cpu.at, cpu.figures.total.user), (at, 10137));
    assert_eq!(source.memory(at).unwrap().figures.total_kb, 24684092);
    assert_eq!(source.net(at).unwrap().figures.interfaces.len(), 4);
    assert_eq!(source.disk(at).unwrap().figures.devices.len(), 10);
    let processes = source.processes(at).unwrap().figures;
    assert_eq!((processes.count, processes.watched.len()), (3, 0));
}

#[test]
fn a_file_is_read_anew_each_time() {
    let root = proc_of_samples();
    let mut source = source(root.path(), &[], 0);
    let mut user = || source.cpu(Duration::ZERO).unwrap().figures.total.user;
    assert_eq!(user(), 10137);
    // Shorter than before: what the buffer still holds of the longer text must not be read again.
    write(root.path(), "stat", "cpu 1 2 3 4\n");
    assert_eq!(user(), 1);
    // And longer than the buffer was.
    let cores: String = (0..1000).map(|n| format!("cpu{n} 1 2 3 4\n")).collect();
    write(root.path(), "stat", format!("cpu 9 2 3 4\n{cores}"));
    let cpu = source.cpu(Duration::ZERO).unwrap().figures;
    assert_eq!((cpu.total.user, cpu.cores.len()), (9, 1000));
}

#[test]
fn a_malformed_file_is_named_and_the_next_reading_goes_on() {
    let root = proc_of_samples();
    let shown = |name: &str| root.path().join(name).display().to_string();
    let at = Duration::ZERO;
    let mut source = source(root.path(), &[], 0);
    write(root.path(), "stat", "cpu 1 2 x 4\n");
    write(root.path(), "meminfo", b"MemTotal: 1 kB\n\xff\n");
    write(root.path(), "net/dev", "");
    write(root.path(), "diskstats", "8 0 sda 1\n");
    assert_eq!(
        message(source.cpu(at)),
        format!(
            "{} line 1: expected a number of ticks, found \"x\"",
            shown("stat")
        )
    );
    assert_eq!(
        message(source.memory(at)),
        format!(
            "{} line 2: expected UTF-8 text, found the byte 0xff",
            shown("meminfo")
        )
    );
    assert_eq!(
        message(source.net(at)),
        format!(
            "{} line 1: expected a heading with \"|\" between its columns, found the end of the file",
            Path::new(&shown("net")).join("dev").display()
        )
    );
    assert_eq!(
        message(source.disk(at)),
        format!(
            "{} line 1: expected a number of requests, found the end of the line",
            shown("diskstats")
        )
    );
    write(root.path(), "stat", "cpu 1 2 3 4\n");
    assert_eq!(source.cpu(at).unwrap().figures.total.system, 3);
}

#[test]
fn a_file_that_is_missing_is_named_and_found_when_it_comes_back() {
    let root = proc_of_samples();
    let mut source = source(root.path(), &[], 0);
    let meminfo = root.path().join("meminfo");
    fs::remove_file(&meminfo).unwrap();
    let error = message(source.memory(Duration::ZERO));
    assert!(
        error.starts_with(&format!("cannot read {}: ", meminfo.display())),
        "{error}"
    );
    write(root.path(), "meminfo", "MemTotal: 8 kB\nMemFree: 1 kB\n");
    assert_eq!(source.memory(Duration::ZERO).unwrap().figures.total_kb, 8);
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_without_an_end_is_refused() {
    let root = proc_of_samples();
    let meminfo = root.path().join("meminfo");
    fs::remove_file(&meminfo).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &meminfo).unwrap();
    let mut source = source(root.path(), &[], 0);
    assert_eq!(
        message(source.memory(Duration::ZERO)),
        format!("{} is longer than 16777216 bytes", meminfo.display())
    );
}

#[test]
fn the_busiest_since_the_last_look_are_watched_beside_those_asked_for() {
    let root = proc_of_samples();
    let mut source = source(root.path(), &[44], 1);
    // The first look knows no earlier one: the busiest is who used most since its start.
    let first = source.processes(Duration::ZERO).unwrap();
    assert_eq!(pids(&first), [43, 44]);
    assert_eq!(first.figures.count, 3);
    assert_eq!(first.figures.watched[0].comm, ") (");
    // Until the next look the choice stands, and those watched are read anew.
    write(root.path(), "42/stat", process(42, "shell", 15));
    write(root.path(), "43/stat", process(43, ") (", 21));
    let second = source.processes(LOOK_EVERY / 2).unwrap();
    assert_eq!(pids(&second), [43, 44]);
    assert_eq!(second.figures.watched[0].user_ticks, 21);
    let third = source.processes(LOOK_EVERY).unwrap();
    assert_eq!(pids(&third), [42, 44]);
}

#[test]
fn a_process_that_ends_is_left_out_and_one_asked_for_in_vain_is_reported_once() {
    let root = proc_of_samples();
    let mut source = source(root.path(), &[42, 4711], 0);
    assert_eq!(
        message(source.processes(Duration::ZERO)),
        "there is no process 4711"
    );
    assert_eq!(pids(&source.processes(LOOK_EVERY).unwrap()), [42]);
    fs::remove_dir_all(root.path().join("42")).unwrap();
    // The file of a real process is gone for those who hold it open, too; that of a prepared one is read until the next look.
    assert_eq!(
        message(source.processes(2 * LOOK_EVERY)),
        "there is no process 42"
    );
    assert_eq!(pids(&source.processes(3 * LOOK_EVERY).unwrap()), [0; 0]);
}

#[test]
fn a_malformed_process_is_an_error_once_and_the_others_are_read() {
    let root = proc_of_samples();
    let mut source = source(root.path(), &[42, 43], 0);
    assert_eq!(pids(&source.processes(Duration::ZERO).unwrap()), [42, 43]);
    write(root.path(), "42/stat", "42 (shell S");
    let stat = root.path().join("42").join("stat");
    let expected = format!(
        "{} line 1: expected a name in parentheses, found \"42 (shell S\"",
        stat.display()
    );
    assert_eq!(message(source.processes(LOOK_EVERY / 2)), expected);
    assert_eq!(pids(&source.processes(LOOK_EVERY / 2).unwrap()), [43]);
}

#[test]
fn without_proc_the_reason_is_said_and_the_library_is_used() {
    let empty = tempfile::tempdir().unwrap();
    let (origin, notice) = Origin::find(empty.path(), false);
    assert_eq!(origin, Origin::Library);
    let notice = notice.unwrap();
    let stat = empty.path().join("stat");
    assert!(
        notice.starts_with(&format!("cannot open {}: ", stat.display())),
        "{notice}"
    );
    assert!(
        notice.ends_with("; reading figures through the library sysinfo instead"),
        "{notice}"
    );
    let (origin, notice) = Origin::find(Path::new("/proc"), true);
    assert_eq!(origin, Origin::Library);
    assert_eq!(
        notice.unwrap(),
        "told not to use /proc: reading figures through the library sysinfo instead"
    );
}

#[test]
fn the_library_gives_figures_that_make_sense() {
    let watch = Watch {
        pids: vec![std::process::id()],
        busiest: 2,
        look_every: LOOK_EVERY,
    };
    let mut source = Source::new(&Origin::Library, watch);
    let second = Duration::from_secs(1);
    let before = source.cpu(second).unwrap().figures;
    let after = source.cpu(2 * second).unwrap().figures;
    assert!(!after.cores.is_empty());
    // Percentages are added up: in a second each core spends a second, busy or idle, but for the part of a tick.
    let ticks = |cpu: &figures::Cpu| cpu.total.user + cpu.total.idle;
    let expected = 1000 * after.cores.len() as u64;
    assert!(expected.abs_diff(ticks(&after) - ticks(&before)) <= 2);
    let memory = source.memory(second).unwrap().figures;
    assert!(memory.total_kb > 0 && memory.total_kb >= memory.free_kb);
    source.net(second).unwrap();
    source.disk(second).unwrap();
    let processes = source.processes(second).unwrap().figures;
    let own = |processes: &figures::Processes| {
        let mut watched = processes.watched.iter();
        watched.any(|process| process.pid == std::process::id() && process.resident_pages > 0)
    };
    assert!(own(&processes), "{processes:?}");
    let again = source.processes(second + LOOK_EVERY / 2).unwrap().figures;
    assert!(own(&again), "{again:?}");
    assert!(again.watched.len() <= 3);
    assert_eq!(again.count, processes.count);
}

#[cfg(target_os = "linux")]
#[test]
fn the_real_files_of_this_machine_are_read() {
    let mut source = source(Path::new("/proc"), &[std::process::id()], 3);
    for n in 0..3 {
        let at = n * LOOK_EVERY;
        assert!(!source.cpu(at).unwrap().figures.cores.is_empty());
        assert!(source.memory(at).unwrap().figures.total_kb > 0);
        source.net(at).unwrap();
        source.disk(at).unwrap();
        let processes = source.processes(at).unwrap().figures;
        assert!(processes.units.page_bytes >= 4096);
        assert!(processes.units.ticks_per_second > 0);
        let own = processes.watched.iter();
        let own: Vec<_> = own.filter(|p| p.pid == std::process::id()).collect();
        assert_eq!(own.len(), 1);
        assert!(own[0].resident_pages > 0 && own[0].threads > 0);
    }
}
