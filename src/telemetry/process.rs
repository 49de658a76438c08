//! How the process is, as Linux tells it. It never fails: what a system does not tell is not shown.

use std::fs;

use super::meter::Meter;
use super::metric::Metric;

/// Ticks of a second in /proc/self/stat: the kernel's `USER_HZ`, which is 100 on every architecture that we build for.
const TICKS: u64 = 100;
/// The fields of /proc/self/stat behind the program's name, proc(5): 14 `utime`, 15 `stime`, 22 `starttime`, counted from
/// the third.
const UTIME: usize = 14 - 3;
const STIME: usize = 15 - 3;
const STARTTIME: usize = 22 - 3;

/// Looks at the process and notes how it is.
pub(super) fn observe(meter: &Meter) {
    let set = |metric, value: Option<f64>| {
        if let Some(value) = value {
            meter.gauge(metric, &[]).set(value);
        }
    };
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    set(Metric::ProcessStart, started(&stat));
    if let Some(seconds) = cpu_seconds(&stat) {
        meter.counter(Metric::ProcessCpu, &[]).absolute(seconds);
    }
    set(Metric::ProcessMemory, resident_bytes());
    set(Metric::ProcessFiles, open_files());
    set(Metric::ProcessFilesMax, files_max());
}

/// A field of /proc/self/stat. The program's name may hold anything, also spaces and brackets.
fn field(stat: &str, place: usize) -> Option<u64> {
    let (_, behind) = stat.rsplit_once(") ")?;
    behind.split_ascii_whitespace().nth(place)?.parse().ok()
}

fn cpu_seconds(stat: &str) -> Option<u64> {
    Some((field(stat, UTIME)? + field(stat, STIME)?) / TICKS)
}

fn started(stat: &str) -> Option<f64> {
    let system = fs::read_to_string("/proc/stat").ok()?;
    let booted = system.lines().find_map(|line| line.strip_prefix("btime "))?;
    let seconds = booted.trim().parse::<u64>().ok()? + field(stat, STARTTIME)? / TICKS;
    u32::try_from(seconds).ok().map(f64::from)
}

fn resident_bytes() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: f64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1_024.0)
}

fn open_files() -> Option<f64> {
    let files = fs::read_dir("/proc/self/fd").ok()?;
    // The folder itself is open while it is read.
    u32::try_from(files.count().saturating_sub(1)).ok().map(f64::from)
}

fn files_max() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_whatever_the_program_is_called() {
        let fields: Vec<String> = (4..=30).map(|number| (number * 100).to_string()).collect();
        let stat = format!("77 (a) b (c) S {}", fields.join(" "));
        assert_eq!(field(&stat, STARTTIME), Some(2_200));
        assert_eq!(cpu_seconds(&stat), Some(29));
    }

    #[test]
    fn a_running_process_has_memory_files_and_a_past() {
        let text = Meter::new().render();
        let value = |name: &str| -> f64 {
            let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
            line.and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 1_000_000.0);
        assert!((3.0..=value("process_max_fds")).contains(&value("process_open_fds")));
        assert!(value("process_start_time_seconds") > 1_600_000_000.0);
    }
}
