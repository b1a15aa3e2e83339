//! The parsers of the `vitals` example: exact figures from kept samples, an error with file and line for every malformed text,
//! and no panic on any bytes.
//!
//! The samples are in `examples/vitals/samples`: one real file of each kind, and files in the shapes that other kernels write.

#[path = "../examples/vitals/figures.rs"]
#[allow(dead_code, reason = "the example uses the rest")]
mod figures;

use figures::*;
use proptest::{prelude::*, sample::Index};

macro_rules! sample {
    ($name:literal) => {
        include_str!(concat!("../examples/vitals/samples/", $name))
    };
}

/// Which parser a sample is for.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Stat,
    Meminfo,
    NetDev,
    Diskstats,
    PidStat,
}

const SAMPLES: [(Kind, &str); 12] = [
    (Kind::Stat, sample!("stat")),
    (Kind::Stat, sample!("stat_96_cores")),
    (Kind::Stat, sample!("stat_no_steal_no_guest")),
    (Kind::Meminfo, sample!("meminfo")),
    (Kind::Meminfo, sample!("meminfo_no_available")),
    (Kind::NetDev, sample!("net_dev")),
    (Kind::NetDev, sample!("net_dev_glued_and_alias")),
    (Kind::Diskstats, sample!("diskstats")),
    (Kind::Diskstats, sample!("diskstats_11_15_17_fields")),
    (Kind::PidStat, sample!("pid_stat")),
    (Kind::PidStat, sample!("pid_stat_odd_name")),
    (Kind::PidStat, sample!("pid_stat_line_end_in_name")),
];

impl Kind {
    fn file(self) -> &'static str {
        match self {
            Kind::Stat => STAT,
            Kind::Meminfo => MEMINFO,
            Kind::NetDev => NET_DEV,
            Kind::Diskstats => DISKSTATS,
            Kind::PidStat => PID_STAT,
        }
    }

    /// Reads bytes as the example does: first made text, then parsed.
    fn parse(self, bytes: &[u8]) -> Result<(), ParseError> {
        match self {
            Kind::Stat => parse_stat(&strict_text(STAT, bytes)?).map(drop),
            Kind::Meminfo => parse_meminfo(&strict_text(MEMINFO, bytes)?).map(drop),
            Kind::NetDev => parse_net_dev(&lossy_text(bytes)).map(drop),
            Kind::Diskstats => parse_diskstats(&strict_text(DISKSTATS, bytes)?).map(drop),
            Kind::PidStat => parse_pid_stat(&lossy_text(bytes)).map(drop),
        }
    }
}

fn times(figures: [u64; 10]) -> CpuTimes {
    let [
        user,
        nice,
        system,
        idle,
        iowait,
        irq,
        softirq,
        steal,
        guest,
        guest_nice,
    ] = figures;
    CpuTimes {
        user,
        nice,
        system,
        idle,
        iowait,
        irq,
        softirq,
        steal,
        guest,
        guest_nice,
    }
}

fn traffic([bytes, packets, errors, drops]: [u64; 4]) -> Traffic {
    Traffic {
        bytes,
        packets,
        errors,
        drops,
    }
}

fn message<T: std::fmt::Debug>(result: Result<T, ParseError>) -> String {
    result.expect_err("the text is malformed").to_string()
}

#[test]
fn stat_of_a_small_machine() {
    let cpu = parse_stat(sample!("stat")).unwrap();
    assert_eq!(
        cpu,
        Cpu {
            total: times([10137, 0, 3272, 314248, 282, 0, 26, 15, 0, 0]),
            cores: vec![
                Core {
                    index: 0,
                    times: times([4733, 0, 1458, 157755, 37, 0, 7, 9, 0, 0]),
                },
                Core {
                    index: 1,
                    times: times([5404, 0, 1813, 156492, 245, 0, 19, 6, 0, 0]),
                },
            ],
            context_switches: Some(266434),
            forks: Some(6520),
            processes_running: Some(1),
            processes_blocked: Some(0),
        }
    );
}

#[test]
fn stat_of_many_cores_keeps_the_numbers_of_those_online() {
    let cpu = parse_stat(sample!("stat_96_cores")).unwrap();
    assert_eq!(
        cpu.total,
        times([
            50563826810,
            493031,
            5319448644,
            234293125550,
            51657688,
            0,
            49077525,
            4332885,
            566017898,
            4334
        ])
    );
    let online: Vec<u32> = cpu.cores.iter().map(|core| core.index).collect();
    let expected: Vec<u32> = (0..96).filter(|index| ![5, 17].contains(index)).collect();
    assert_eq!(online, expected);
    assert_eq!(
        cpu.cores[93],
        Core {
            index: 95,
            times: times([
                924096626, 1202, 91263787, 2010874933, 366424, 0, 956993, 34679, 6897783, 87
            ]),
        }
    );
    assert_eq!(cpu.context_switches, Some(1234567890123));
    assert_eq!(cpu.processes_running, Some(31));
    assert_eq!(cpu.processes_blocked, Some(2));
}

#[test]
fn stat_fields_that_came_later_count_as_0_when_missing() {
    let cpu = parse_stat(sample!("stat_no_steal_no_guest")).unwrap();
    assert_eq!(
        cpu.total,
        times([4705, 150, 1120, 16250, 520, 25, 110, 0, 0, 0])
    );
    assert_eq!(cpu.cores.len(), 2);
    assert_eq!(
        parse_stat("cpu 1 2 3 4\n").unwrap().total,
        times([1, 2, 3, 4, 0, 0, 0, 0, 0, 0])
    );
}

#[test]
fn meminfo_of_a_new_and_an_old_kernel() {
    assert_eq!(
        parse_meminfo(sample!("meminfo")).unwrap(),
        Memory {
            total_kb: 24684092,
            free_kb: 24543072,
            available_kb: Some(24440616),
            buffers_kb: 412,
            cached_kb: 15396,
            dirty_kb: 40,
            swap_total_kb: 0,
            swap_free_kb: 0,
        }
    );
    assert_eq!(
        parse_meminfo(sample!("meminfo_no_available")).unwrap(),
        Memory {
            total_kb: 516372,
            free_kb: 13828,
            available_kb: None,
            buffers_kb: 52396,
            cached_kb: 253716,
            dirty_kb: 156,
            swap_total_kb: 1048568,
            swap_free_kb: 1009924,
        }
    );
}

#[test]
fn net_dev_of_a_small_machine() {
    let net = parse_net_dev(sample!("net_dev")).unwrap();
    let names: Vec<&str> = net.interfaces.iter().map(|i| i.name.as_str()).collect();
    assert_eq!(names, ["lo", "ifb0", "ifb1", "eth0"]);
    assert_eq!(net.interfaces[0].received, traffic([3193, 29, 0, 0]));
    assert_eq!(net.interfaces[3].received, traffic([61134217, 4130, 0, 0]));
    assert_eq!(net.interfaces[3].sent, traffic([356778, 2800, 0, 0]));
}

#[test]
fn net_dev_with_colons_glued_to_numbers_and_colons_in_names() {
    let net = parse_net_dev(sample!("net_dev_glued_and_alias")).unwrap();
    let expected = [
        ("lo", [2776770, 11307, 0, 0], [2776770, 11307, 0, 0]),
        ("eth0", [1215645, 2751, 1, 2], [1782404, 4324, 7, 8]),
        ("eth0:1", [500, 5, 0, 0], [600, 6, 0, 0]),
        (
            "wlp0s20f3",
            [u64::MAX, 99999999999, 0, 12345],
            [17179869184, 88888888888, 0, 0],
        ),
    ]
    .map(|(name, received, sent)| Interface {
        name: name.to_owned(),
        received: traffic(received),
        sent: traffic(sent),
    });
    assert_eq!(net.interfaces, expected);
}

#[test]
fn diskstats_of_a_small_machine() {
    let disk = parse_diskstats(sample!("diskstats")).unwrap();
    assert_eq!(disk.devices.len(), 10);
    assert_eq!(
        disk.devices[8],
        Device {
            major: 254,
            minor: 0,
            name: "vda".to_owned(),
            reads: 10179,
            sectors_read: 4089114,
            writes: 2322,
            sectors_written: 1861688,
            in_flight: 0,
            busy_ms: Some(4000),
            discards: Some(4091),
            flushes: Some(122),
        }
    );
}

#[test]
fn diskstats_of_three_ages() {
    let disk = parse_diskstats(sample!("diskstats_11_15_17_fields")).unwrap();
    let names: Vec<&str> = disk.devices.iter().map(|d| d.name.as_str()).collect();
    assert_eq!(
        names,
        ["sda", "sda1", "sdb", "nvme0n1", "nvme0n1p1", "cciss!c0d0"]
    );
    assert_eq!(
        disk.devices[0],
        Device {
            major: 8,
            minor: 0,
            name: "sda".to_owned(),
            reads: 446216,
            sectors_read: 9550688,
            writes: 424847,
            sectors_written: 5922052,
            in_flight: 0,
            busy_ms: Some(3376340),
            discards: None,
            flushes: None,
        }
    );
    assert_eq!(
        disk.devices[2],
        Device {
            major: 8,
            minor: 16,
            name: "sdb".to_owned(),
            reads: 100,
            sectors_read: 2000,
            writes: 200,
            sectors_written: 4000,
            in_flight: 3,
            busy_ms: Some(90),
            discards: Some(50),
            flushes: None,
        }
    );
    assert_eq!(
        disk.devices[3],
        Device {
            major: 259,
            minor: 0,
            name: "nvme0n1".to_owned(),
            reads: 47239051,
            sectors_read: 3862155312,
            writes: 91023456,
            sectors_written: 8123456789,
            in_flight: 7,
            busy_ms: Some(12345678),
            discards: Some(1234),
            flushes: Some(98765),
        }
    );
    // Two figures more than any kernel writes today.
    assert_eq!(disk.devices[4].flushes, Some(16));
    assert_eq!(disk.devices[5].busy_ms, Some(u64::from(u32::MAX)));
}

#[test]
fn pid_stat_of_a_process() {
    assert_eq!(
        parse_pid_stat(sample!("pid_stat")).unwrap(),
        Process {
            pid: 6523,
            comm: "cat".to_owned(),
            state: 'R',
            parent: 6517,
            minor_faults: 118,
            major_faults: 0,
            user_ticks: 0,
            system_ticks: 0,
            threads: 1,
            start_ticks: 164316,
            virtual_bytes: 3133440,
            resident_pages: 362,
        }
    );
}

#[test]
fn pid_stat_of_names_with_parentheses_spaces_and_line_ends() {
    assert_eq!(
        parse_pid_stat(sample!("pid_stat_odd_name")).unwrap(),
        Process {
            pid: 4242,
            comm: "tmux: a) (b) R".to_owned(),
            state: 'S',
            parent: 1,
            minor_faults: 1500,
            major_faults: 3,
            user_ticks: 1234,
            system_ticks: 567,
            threads: 7,
            start_ticks: 987654,
            virtual_bytes: 123456789,
            resident_pages: 2048,
        }
    );
    let lines = parse_pid_stat(sample!("pid_stat_line_end_in_name")).unwrap();
    assert_eq!(lines.comm, "two\nlines");
    assert_eq!((lines.state, lines.system_ticks), ('D', 31));
    let parentheses = sample!("pid_stat_odd_name").replace("tmux: a) (b) R", ") (");
    assert_eq!(parse_pid_stat(&parentheses).unwrap().comm, ") (");
}

#[test]
fn errors_name_file_line_and_what_was_expected_and_found() {
    let table = [
        (
            message(parse_stat("")),
            "/proc/stat line 1: expected a line \"cpu\", found the end of the file",
        ),
        (
            message(parse_stat("cpu 1 2 3\n")),
            "/proc/stat line 1: expected a number of ticks, found the end of the line",
        ),
        (
            message(parse_stat("cpu 1 2 3 4\ncpu0 1 2 -3 4\n")),
            "/proc/stat line 2: expected a number of ticks, found \"-3\"",
        ),
        (
            message(parse_stat("cpu 1 2 3 4\ncpux 1 2 3 4\n")),
            "/proc/stat line 2: expected a core number behind \"cpu\", found \"x\"",
        ),
        (
            message(parse_stat("cpu 1 2 3 4\ncpu4294967296 1 2 3 4\n")),
            "/proc/stat line 2: expected a core number behind \"cpu\" below 2^32, found \"4294967296\"",
        ),
        (
            message(parse_stat("cpu 1 2 3 18446744073709551616\n")),
            "/proc/stat line 1: expected a number of ticks below 2^64, found \"18446744073709551616\"",
        ),
        (
            message(parse_stat("cpu 1 2 3 4\nctxt\n")),
            "/proc/stat line 2: expected a count, found the end of the line",
        ),
        (
            message(parse_meminfo(
                "MemTotal: 8 kB\nMemFree: 1 kB\nBuffers: abc kB\n",
            )),
            "/proc/meminfo line 3: expected a number of kB, found \"abc\"",
        ),
        (
            message(parse_meminfo("MemTotal: 8\n")),
            "/proc/meminfo line 1: expected the unit kB, found the end of the line",
        ),
        (
            message(parse_meminfo("MemTotal: 8 MB\n")),
            "/proc/meminfo line 1: expected the unit kB, found \"MB\"",
        ),
        (
            message(parse_meminfo("MemTotal: 8 kB\n")),
            "/proc/meminfo line 2: expected a line \"MemFree:\", found the end of the file",
        ),
        (
            message(parse_meminfo("MemTotal 8 kB\n")),
            "/proc/meminfo line 1: expected a name and a colon, found \"MemTotal 8 kB\"",
        ),
        (
            message(parse_net_dev("one | two\n")),
            "/proc/net/dev line 2: expected a heading with \"|\" between its columns, found the end of the file",
        ),
        (
            message(parse_net_dev("lo: 1 2 3\n")),
            "/proc/net/dev line 1: expected a heading with \"|\" between its columns, found \"lo: 1 2 3\"",
        ),
        (
            message(parse_net_dev("|\n|\nlo 1\n")),
            "/proc/net/dev line 3: expected an interface and a colon, found \"lo 1\"",
        ),
        (
            message(parse_net_dev("|\n|\n : 1\n")),
            "/proc/net/dev line 3: expected the name of an interface, found \": 1\"",
        ),
        (
            message(parse_net_dev("|\n|\nlo: 1 2 3 4 5 6 7 8 9 10 11 12 13\n")),
            "/proc/net/dev line 3: expected 16 counters of an interface, found the end of the line",
        ),
        (
            message(parse_diskstats("8 0 sda 1 2 3 4 5 6 7 8 9 10\n")),
            "/proc/diskstats line 1: expected a number of milliseconds, found the end of the line",
        ),
        (
            message(parse_diskstats("8 0 sda 1 2 3 4 5 6 7 8 9 10 11 12\n")),
            "/proc/diskstats line 1: expected four figures of discards, found the end of the line",
        ),
        (
            message(parse_diskstats("8 sda\n")),
            "/proc/diskstats line 1: expected a minor device number, found \"sda\"",
        ),
        (
            message(parse_pid_stat("")),
            "/proc/<pid>/stat line 1: expected the figures of a process, found the end of the file",
        ),
        (
            message(parse_pid_stat("1 init S")),
            "/proc/<pid>/stat line 1: expected a name in parentheses, found \"1 init S\"",
        ),
        (
            message(parse_pid_stat("1 (two\nlines) SS 1")),
            "/proc/<pid>/stat line 2: expected the state of the process, one letter, found \"SS\"",
        ),
        (
            message(parse_pid_stat("1 (init) S 0 1 1 0")),
            "/proc/<pid>/stat line 1: expected the group, session, terminal and flags of the process, found the end of the line",
        ),
    ];
    for (message, expected) in table {
        assert_eq!(message, expected);
    }
}

#[test]
fn errors_are_one_short_line_whatever_was_found() {
    let bell = message(parse_meminfo("MemTotal: \u{7}\u{1b}[31m kB\n"));
    assert_eq!(
        bell,
        "/proc/meminfo line 1: expected a number of kB, found \"\\u{7}\\u{1b}[31m\""
    );
    let long = message(parse_meminfo(&format!(
        "MemTotal: {} kB\n",
        "9".repeat(100_000)
    )));
    assert!(long.len() < 150, "{long}");
}

#[test]
fn bytes_that_are_not_text_are_an_error_or_a_replacement() {
    let error = strict_text(MEMINFO, b"MemTotal: 1 kB\nMem\xffFree: 1 kB\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "/proc/meminfo line 2: expected UTF-8 text, found the byte 0xff"
    );
    let odd = sample!("pid_stat_odd_name").as_bytes();
    let odd: Vec<u8> = odd
        .iter()
        .map(|&byte| if byte == b'a' { 0xff } else { byte })
        .collect();
    let process = parse_pid_stat(&lossy_text(&odd)).unwrap();
    assert_eq!(process.comm, "tmux: \u{fffd}) (b) R");
}

/// One thing that can go wrong with a file.
#[derive(Clone, Debug)]
enum Damage {
    FlipBits { at: Index, mask: u8 },
    Truncate { at: Index },
    RepeatLine { line: Index, to: Index },
    RemoveLine { line: Index },
    SwapLines { one: Index, other: Index },
    ReplaceNumber { which: Index, with: String },
    Insert { at: Index, bytes: Vec<u8> },
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let mut lines: Vec<Vec<u8>> = bytes
            .split_inclusive(|&byte| byte == b'\n')
            .map(<[u8]>::to_vec)
            .collect();
        match self {
            Damage::FlipBits { at, mask } => {
                let at = at.index(bytes.len());
                bytes[at] ^= mask;
            }
            Damage::Truncate { at } => bytes.truncate(at.index(bytes.len())),
            Damage::RepeatLine { line, to } => {
                let line = lines[line.index(lines.len())].clone();
                lines.insert(to.index(lines.len()), line);
                *bytes = lines.concat();
            }
            Damage::RemoveLine { line } => {
                lines.remove(line.index(lines.len()));
                *bytes = lines.concat();
            }
            Damage::SwapLines { one, other } => {
                let count = lines.len();
                lines.swap(one.index(count), other.index(count));
                *bytes = lines.concat();
            }
            Damage::ReplaceNumber { which, with } => {
                let starts: Vec<usize> = (0..bytes.len())
                    .filter(|&i| {
                        bytes[i].is_ascii_digit() && (i == 0 || !bytes[i - 1].is_ascii_digit())
                    })
                    .collect();
                if starts.is_empty() {
                    return;
                }
                let start = starts[which.index(starts.len())];
                let digits = bytes[start..]
                    .iter()
                    .take_while(|byte| byte.is_ascii_digit())
                    .count();
                bytes.splice(start..start + digits, with.bytes());
            }
            Damage::Insert { at, bytes: new } => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, new.iter().copied());
            }
        }
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    let numbers = prop_oneof![
        Just(u64::MAX.to_string()),
        Just("18446744073709551616".to_owned()),
        Just("-1".to_owned()),
        Just("+1".to_owned()),
        Just("1e9".to_owned()),
        Just("0x10".to_owned()),
        Just(String::new()),
        "[0-9]{1,60}",
    ];
    prop_oneof![
        (any::<Index>(), 1..=u8::MAX).prop_map(|(at, mask)| Damage::FlipBits { at, mask }),
        any::<Index>().prop_map(|at| Damage::Truncate { at }),
        any::<(Index, Index)>().prop_map(|(line, to)| Damage::RepeatLine { line, to }),
        any::<Index>().prop_map(|line| Damage::RemoveLine { line }),
        any::<(Index, Index)>().prop_map(|(one, other)| Damage::SwapLines { one, other }),
        (any::<Index>(), numbers).prop_map(|(which, with)| Damage::ReplaceNumber { which, with }),
        (any::<Index>(), any::<Vec<u8>>()).prop_map(|(at, bytes)| Damage::Insert { at, bytes }),
    ]
}

/// Parses `bytes`, and if that is an error checks that it says where: the parser's own file, and a line that exists, or the
/// one behind the last when something is missing.
fn parse_and_check(kind: Kind, bytes: &[u8]) -> Result<(), TestCaseError> {
    let Err(error) = kind.parse(bytes) else {
        return Ok(());
    };
    let shown = error.to_string();
    let rest = shown
        .strip_prefix(kind.file())
        .and_then(|rest| rest.strip_prefix(" line "));
    let line = rest
        .and_then(|rest| rest.split_once(": expected "))
        .and_then(|(line, _)| line.parse::<usize>().ok());
    prop_assert!(line.is_some(), "no file and line in: {shown}");
    let lines = 1 + bytes.iter().filter(|&&byte| byte == b'\n').count();
    prop_assert!(
        (1..=lines).contains(&line.unwrap()),
        "no such line: {shown}"
    );
    prop_assert!(shown.contains(", found "), "nothing found in: {shown}");
    Ok(())
}

/// `PROPTEST_CASES` sets the number of cases; the default is small, so that the suite stays quick.
fn config() -> ProptestConfig {
    let mut config = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 512;
    }
    // A failure prints its input; a file beside the sources would only be noise in the repository.
    config.failure_persistence = None;
    config
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_damaged_sample_is_read_or_refused_by_file_and_line(
        sample in any::<Index>(),
        damages in proptest::collection::vec(damage(), 1..6),
    ) {
        let (kind, text) = SAMPLES[sample.index(SAMPLES.len())];
        let mut bytes = text.as_bytes().to_vec();
        for damage in &damages {
            damage.apply(&mut bytes);
        }
        parse_and_check(kind, &bytes)?;
    }

    #[test]
    fn any_bytes_are_read_or_refused_by_file_and_line(bytes in any::<Vec<u8>>()) {
        for (kind, _) in SAMPLES {
            parse_and_check(kind, &bytes)?;
        }
    }
}

#[test]
fn every_sample_cut_anywhere_is_read_or_refused_by_file_and_line() {
    for (kind, text) in SAMPLES {
        for length in 0..text.len() {
            parse_and_check(kind, &text.as_bytes()[..length]).unwrap();
        }
    }
}
