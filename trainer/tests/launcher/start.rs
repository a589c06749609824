//! Workers: environment, process groups, output, store.

use libtorch_ext::distributed::{Secret, Store, StoreError, StoreOptions};

use crate::launched::Launched;

#[test]
fn workers_have_the_variables_of_torchrun() {
    let mut launched = Launched::start(
        &["--nproc", "3", "--threads", "2"],
        r#"echo "$RANK $LOCAL_RANK $WORLD_SIZE $LOCAL_WORLD_SIZE $MASTER_ADDR $GLM_STORE_SERVER \
            $TORCHELASTIC_RESTART_COUNT $OMP_NUM_THREADS" > variables.$RANK"#,
    );
    assert_eq!(launched.exit_code(), Some(0), "{}", launched.stderr());
    for rank in 0..3 {
        let variables = launched.text(&format!("variables.{rank}"));
        let words: Vec<_> = variables.split_whitespace().collect();
        assert_eq!(words.join(" "), format!("{rank} {rank} 3 3 127.0.0.1 launcher 0 2"));
        for file in ["port", "secret"] {
            assert_eq!(launched.text(&format!("{file}.{rank}")), launched.text(&format!("{file}.0")));
        }
    }
}

/// Every launch has another secret, and without it the store can be neither read nor written.
#[test]
fn the_store_is_for_the_workers_only() {
    let launch = || {
        let launched = Launched::start(&["--nproc", "1"], "until_there go");
        launched.wait_for(&["port.0"]);
        launched
    };
    let [mut one, mut other] = [launch(), launch()];
    let [secret, another] = [&one, &other].map(|launched| launched.text("secret.0").trim().to_owned());
    assert!(secret.len() >= 32 && secret != another, "{secret}");
    one.store().set("a", b"b").expect("a worker uses the store");
    let port = one.text("port.0").trim().parse().expect("a port");
    for secret in [Secret::none(), Secret::new(another)] {
        let error = Store::connect(&StoreOptions { port, secret, ..StoreOptions::default() }).expect_err("a stranger");
        assert!(matches!(error, StoreError::WrongSecret { .. }), "{error}");
    }
    for launched in [&mut one, &mut other] {
        launched.touch("go");
        assert_eq!(launched.exit_code(), Some(0), "{}", launched.stderr());
    }
}

#[test]
fn every_worker_has_its_own_process_group() {
    let mut launched = Launched::start(&["--nproc", "2"], "cut -d' ' -f5 /proc/$$/stat > group.$RANK");
    assert_eq!(launched.exit_code(), Some(0), "{}", launched.stderr());
    assert_eq!(launched.text("group.0"), launched.text("pid.0"));
    assert_eq!(launched.text("group.1"), launched.text("pid.1"));
}

#[test]
fn lines_have_the_rank_and_do_not_mix() {
    let script = r#"
        line=$(printf "%01000d" $RANK)
        for i in $(seq 100); do echo $line; echo $line >&2; done
        printf '\377 end'
    "#;
    let mut launched = Launched::start(&["--nproc", "4"], script);
    assert_eq!(launched.exit_code(), Some(0), "{}", launched.stderr());
    let stdout = launched.bytes("stdout");
    assert_eq!(stdout.iter().filter(|&&byte| byte == b'\n').count(), 100);
    assert!(stdout.ends_with(b"\n\xff end"), "rank 0 inherits the launcher's stdout");

    let stderr = launched.bytes("stderr");
    let mut lines: Vec<_> = stderr.split_inclusive(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
    lines.sort();
    let mut expected: Vec<_> = (1..4)
        .flat_map(|rank| {
            let line = format!("[rank {rank}] {rank:01000}\n").into_bytes();
            let end = [format!("[rank {rank}] ").as_bytes(), b"\xff end\n"].concat();
            std::iter::repeat_n(line, 200).chain([end])
        })
        .chain(std::iter::repeat_n(format!("{:01000}\n", 0).into_bytes(), 100))
        .collect();
    expected.sort();
    assert!(lines == expected, "{}", launched.stderr());
}
