//! The figures of a machine without `/proc`, through the library `sysinfo`.
//!
//! It gives what its maintainers found a way to read on each system, which is less than `/proc` has: no drops of interfaces,
//! no numbers of requests or busy time of disks, and no ticks of a core but a percentage, taken anew every 200 ms or so. What
//! it does not give is 0 or `None` in the figures. Percentages are added up to ticks again, so that all that follows (rates,
//! alarms, the table) is the same for both kinds of source.

use std::time::Duration;

use sysinfo::{
    DiskRefreshKind, Disks, Networks, Pid, ProcessRefreshKind, ProcessStatus, ProcessesToUpdate,
    System,
};

use crate::{
    figures::{
        Core, Cpu, CpuTimes, Device, Disk, Interface, Memory, Net, Process, Processes,
        SECTOR_BYTES, Traffic, Units,
    },
    source::{Chooser, SourceError, Watch},
};

pub(crate) struct Library {
    system: System,
    networks: Networks,
    disks: Disks,
    /// When the cores were last asked, and what they have done since the first time.
    cores_at: Option<Duration>,
    cores: Vec<Spent>,
    chooser: Chooser,
    watched: Vec<Pid>,
}

/// Time spent by one core. The fractions would be lost in whole ticks, 50 times a second.
#[derive(Clone, Copy, Default)]
struct Spent {
    busy_ms: f64,
    idle_ms: f64,
}

impl Spent {
    fn times(self) -> CpuTimes {
        CpuTimes {
            // `as` saturates, and makes 0 of what is not a number.
            user: self.busy_ms as u64,
            idle: self.idle_ms as u64,
            ..CpuTimes::default()
        }
    }
}

impl Library {
    pub(crate) fn new(watch: Watch) -> Self {
        Self {
            // Nothing is read yet: every reader has a library of its own, and asks for one kind of figures only.
            system: System::new(),
            networks: Networks::new(),
            disks: Disks::new(),
            cores_at: None,
            cores: Vec::new(),
            chooser: Chooser::new(watch),
            watched: Vec::new(),
        }
    }

    pub(crate) fn cpu(&mut self, at: Duration) -> Cpu {
        self.system.refresh_cpu_usage();
        let elapsed = self.cores_at.map_or(Duration::ZERO, |before| {
            at.checked_sub(before).unwrap_or_default()
        });
        self.cores_at = Some(at);
        let elapsed_ms = elapsed.as_secs_f64() * 1000.0;
        let usage = self.system.cpus();
        self.cores.resize_with(usage.len(), Spent::default);
        let mut total = Spent::default();
        for (spent, core) in self.cores.iter_mut().zip(usage) {
            let busy_ms = elapsed_ms * f64::from(core.cpu_usage()).clamp(0.0, 100.0) / 100.0;
            spent.busy_ms += busy_ms;
            spent.idle_ms += elapsed_ms - busy_ms;
            total.busy_ms += spent.busy_ms;
            total.idle_ms += spent.idle_ms;
        }
        Cpu {
            total: total.times(),
            cores: (0..)
                .zip(&self.cores)
                .map(|(index, spent)| Core {
                    index,
                    times: spent.times(),
                })
                .collect(),
            ..Cpu::default()
        }
    }

    pub(crate) fn memory(&mut self) -> Memory {
        self.system.refresh_memory();
        Memory {
            total_kb: self.system.total_memory() / 1024,
            free_kb: self.system.free_memory() / 1024,
            // The library gives 0 where the system has no such figure.
            available_kb: Some(self.system.available_memory() / 1024).filter(|&kb| kb > 0),
            swap_total_kb: self.system.total_swap() / 1024,
            swap_free_kb: self.system.free_swap() / 1024,
            ..Memory::default()
        }
    }

    pub(crate) fn net(&mut self) -> Net {
        self.networks.refresh(true);
        let mut interfaces: Vec<Interface> = self
            .networks
            .iter()
            .map(|(name, data)| Interface {
                name: name.clone(),
                received: Traffic {
                    bytes: data.total_received(),
                    packets: data.total_packets_received(),
                    errors: data.total_errors_on_received(),
                    drops: 0,
                },
                sent: Traffic {
                    bytes: data.total_transmitted(),
                    packets: data.total_packets_transmitted(),
                    errors: data.total_errors_on_transmitted(),
                    drops: 0,
                },
            })
            .collect();
        // They come out of a hash map; the kernel's own list has an order, and so has this.
        interfaces.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Net { interfaces }
    }

    pub(crate) fn disk(&mut self) -> Disk {
        self.disks
            .refresh_specifics(true, DiskRefreshKind::nothing().with_io_usage());
        let mut devices: Vec<Device> = self
            .disks
            .iter()
            .map(|disk| {
                let name = disk.name().to_string_lossy();
                let usage = disk.usage();
                Device {
                    name: name.strip_prefix("/dev/").unwrap_or(&name).to_owned(),
                    sectors_read: usage.total_read_bytes / SECTOR_BYTES,
                    sectors_written: usage.total_written_bytes / SECTOR_BYTES,
                    ..Device::default()
                }
            })
            .collect();
        // The library lists mounts, and one device may be mounted in several places.
        devices.sort_by(|a, b| a.name.cmp(&b.name));
        devices.dedup_by(|a, b| a.name == b.name);
        Disk { devices }
    }

    pub(crate) fn processes(&mut self, at: Duration) -> Result<Processes, SourceError> {
        let kind = ProcessRefreshKind::nothing().with_cpu().with_memory();
        let mut outcome = Ok(());
        if self.chooser.look_is_due(at) {
            self.system
                .refresh_processes_specifics(ProcessesToUpdate::All, true, kind);
            let all: Vec<Process> = self.system.processes().values().map(process).collect();
            let (pids, found) = self.chooser.choose(&all);
            self.watched = pids.into_iter().map(Pid::from_u32).collect();
            outcome = found;
        } else {
            let watched = ProcessesToUpdate::Some(&self.watched);
            self.system.refresh_processes_specifics(watched, true, kind);
        }
        outcome?;
        let watched = self
            .watched
            .iter()
            .filter_map(|&pid| self.system.process(pid));
        Ok(Processes {
            // It gives milliseconds and bytes.
            units: Units {
                ticks_per_second: 1000,
                page_bytes: 1,
            },
            count: self.system.processes().len() as u64,
            watched: watched.map(process).collect(),
        })
    }
}

fn process(process: &sysinfo::Process) -> Process {
    Process {
        pid: process.pid().as_u32(),
        comm: process.name().to_string_lossy().into_owned(),
        state: match process.status() {
            ProcessStatus::Run => 'R',
            ProcessStatus::Sleep => 'S',
            ProcessStatus::Idle => 'I',
            ProcessStatus::UninterruptibleDiskSleep => 'D',
            ProcessStatus::Stop => 'T',
            ProcessStatus::Zombie => 'Z',
            ProcessStatus::Dead => 'X',
            _ => '?',
        },
        parent: process.parent().map_or(0, Pid::as_u32),
        minor_faults: 0,
        major_faults: 0,
        // The library does not tell apart what the program did and what the system did for it.
        user_ticks: process.accumulated_cpu_time(),
        system_ticks: 0,
        threads: 0,
        start_ticks: process.start_time(),
        virtual_bytes: process.virtual_memory(),
        resident_pages: process.memory(),
    }
}
