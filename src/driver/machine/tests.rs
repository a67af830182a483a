//! What control groups and the machine say, as tables of the files' contents.

use super::*;

const MEMINFO: &str = "MemTotal:       16777216 kB\nMemFree: 1 kB\nMemAvailable:    8388608 kB\n";
const V2: &str = "29 22 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate";
const V1: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
    32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
    35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory";
const NO_LIMIT: &str = "9223372036854771712";
const GIB: u64 = 1 << 30;

/// What is found among these files, as `limit-used`, `quota`, and what is left.
fn found(files: Files<'_>) -> String {
    let read = |path: &str| {
        let all = [("/proc/meminfo", MEMINFO)];
        let mut files = files.iter().chain(&all);
        files.find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned())
    };
    let machine = Machine::of(&read);
    assert_eq!((machine.memory_total, machine.memory_available), (Some(16 * GIB), Some(8 * GIB)));
    let limit = machine.memory_limit.map(|limit| format!("{}-{}", limit.bytes, limit.used));
    let quota = machine.cpu_quota.map(|quota| quota.to_string());
    let left = machine.memory_left().map(|left| left.to_string());
    [limit, quota, left].map(|part| part.unwrap_or("none".to_owned())).join(" ")
}

type Files<'a> = &'a [(&'a str, &'a str)];

fn found_in(cases: &[(&str, Files<'_>, &str)]) {
    for (what, files, wanted) in cases {
        assert_eq!(found(files), *wanted, "{what}");
    }
}

fn own(text: &str) -> (&str, &str) {
    ("/proc/self/cgroup", text)
}

const ON_V2: (&str, &str) = ("/proc/self/mountinfo", V2);
const ON_V1: (&str, &str) = ("/proc/self/mountinfo", V1);

#[test]
fn a_group_is_limited_by_itself_and_those_above() {
    let nested = "0::/user.slice/weft.service\n";
    found_in(&[
        ("nothing told", &[], "none none 8589934592"),
        ("no limits", &[ON_V2, own("0::/\n")], "none none 8589934592"),
        (
            "a limit of our own",
            &[
                ON_V2,
                own("0::/a\n"),
                ("/sys/fs/cgroup/a/memory.max", "1000\n"),
                ("/sys/fs/cgroup/a/memory.current", "400\n"),
                ("/sys/fs/cgroup/a/memory.stat", "anon 300\ninactive_file 100\n"),
                ("/sys/fs/cgroup/a/cpu.max", "150000 100000\n"),
            ],
            "1000-300 1.5 700",
        ),
        (
            "max is none",
            &[
                ON_V2,
                own("0::/a\n"),
                ("/sys/fs/cgroup/a/memory.max", "max\n"),
                ("/sys/fs/cgroup/a/memory.current", "400\n"),
                ("/sys/fs/cgroup/a/cpu.max", "max 100000\n"),
            ],
            "none none 8589934592",
        ),
        (
            "the tightest of those above",
            &[
                ON_V2,
                own(nested),
                ("/sys/fs/cgroup/user.slice/weft.service/memory.max", "1000"),
                ("/sys/fs/cgroup/user.slice/weft.service/memory.current", "100"),
                ("/sys/fs/cgroup/user.slice/memory.max", "2000"),
                ("/sys/fs/cgroup/user.slice/memory.current", "1900"),
                ("/sys/fs/cgroup/user.slice/weft.service/cpu.max", "400000 100000"),
                ("/sys/fs/cgroup/user.slice/cpu.max", "50000 100000"),
            ],
            "2000-1900 0.5 100",
        ),
    ]);
}

#[test]
fn a_group_is_found_where_it_is_mounted() {
    found_in(&[
        (
            "a namespace whose top is limited",
            &[
                ON_V2,
                own("0::/\n"),
                ("/sys/fs/cgroup/memory.max", "1000"),
                ("/sys/fs/cgroup/memory.current", "1200"),
            ],
            "1000-1200 none 0",
        ),
        (
            "a mount that shows our group as its top",
            &[
                ("/proc/self/mountinfo", "1 2 0:26 /docker/a /sys/fs/cgroup ro - cgroup2 cgroup rw"),
                own("0::/docker/a/b\n"),
                ("/sys/fs/cgroup/b/memory.max", "10"),
                ("/sys/fs/cgroup/b/memory.current", "1"),
            ],
            "10-1 none 9",
        ),
        (
            "a group outside of what is mounted",
            &[
                ("/proc/self/mountinfo", "1 2 0:26 /../x /sys/fs/cgroup ro - cgroup2 cgroup rw"),
                own("0::/../y\n"),
                ("/sys/fs/cgroup/memory.max", "10"),
                ("/sys/fs/cgroup/memory.current", "1"),
            ],
            "10-1 none 9",
        ),
        (
            "more than there is",
            &[
                ON_V2,
                own("0::/\n"),
                ("/sys/fs/cgroup/memory.max", "17179869184"),
                ("/sys/fs/cgroup/memory.current", "1"),
            ],
            "none none 8589934592",
        ),
        (
            "a limit without its use",
            &[ON_V2, own("0::/\n"), ("/sys/fs/cgroup/memory.max", "1000")],
            "none none 8589934592",
        ),
    ]);
}

#[test]
fn version_one_and_nonsense_are_read_as_well() {
    let legacy = "4:memory:/docker/a\n1:cpu,cpuacct:/docker/a\n0::/\n";
    found_in(&[
        (
            "version 1",
            &[
                ON_V1,
                own(legacy),
                ("/sys/fs/cgroup/memory/docker/a/memory.limit_in_bytes", "5000\n"),
                ("/sys/fs/cgroup/memory/docker/a/memory.usage_in_bytes", "3000\n"),
                ("/sys/fs/cgroup/memory/docker/a/memory.stat", "inactive_file 1\ntotal_inactive_file 500\n"),
                ("/sys/fs/cgroup/cpu,cpuacct/docker/a/cpu.cfs_quota_us", "200000\n"),
                ("/sys/fs/cgroup/cpu,cpuacct/docker/a/cpu.cfs_period_us", "100000\n"),
            ],
            "5000-2500 2 2500",
        ),
        (
            "version 1 without a limit",
            &[
                ON_V1,
                own(legacy),
                ("/sys/fs/cgroup/memory/docker/a/memory.limit_in_bytes", NO_LIMIT),
                ("/sys/fs/cgroup/memory/docker/a/memory.usage_in_bytes", "3000"),
                ("/sys/fs/cgroup/cpu,cpuacct/docker/a/cpu.cfs_quota_us", "-1"),
                ("/sys/fs/cgroup/cpu,cpuacct/docker/a/cpu.cfs_period_us", "100000"),
            ],
            "none none 8589934592",
        ),
        (
            "nonsense",
            &[
                ("/proc/self/mountinfo", "a - b\n - cgroup2\n1 2 3 - cgroup cgroup\n"),
                own("a\n1:b\n"),
                ("/sys/fs/cgroup/memory.max", "lots"),
            ],
            "none none 8589934592",
        ),
        (
            "nonsense for numbers",
            &[
                ON_V2,
                own("0::/\n"),
                ("/sys/fs/cgroup/memory.max", "-5"),
                ("/sys/fs/cgroup/memory.current", "1"),
                ("/sys/fs/cgroup/cpu.max", "0 0"),
            ],
            "none none 8589934592",
        ),
        (
            "both versions at once",
            &[
                (
                    "/proc/self/mountinfo",
                    "1 2 0:1 / /v1/memory rw - cgroup cgroup rw,memory\n3 2 0:2 / /v2 rw - cgroup2 none rw",
                ),
                own("4:memory:/a\n0::/b\n"),
                ("/v1/memory/a/memory.limit_in_bytes", "100"),
                ("/v1/memory/a/memory.usage_in_bytes", "10"),
                ("/v2/b/cpu.max", "300000 100000"),
            ],
            "100-10 3 90",
        ),
    ]);
}

#[test]
fn without_a_word_of_the_kernel_nothing_is_limited() {
    let machine = Machine::of(&|_| None);
    assert_eq!((machine, machine.memory_left()), (Machine::default(), None));
}

#[cfg(target_os = "linux")]
#[test]
fn this_machine_tells_what_it_has() {
    let machine = Machine::read();
    let (total, left) = (machine.memory_total.expect("told"), machine.memory_left().expect("told"));
    assert!(left < total && left > 1 << 20, "{machine:?}");
    let cores = std::thread::available_parallelism().expect("told").get() as f64;
    assert!(machine.cpu_quota.is_none_or(|quota| cores <= quota.ceil()), "{machine:?} and {cores} cores");
}
