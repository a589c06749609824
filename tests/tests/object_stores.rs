//! Both programs with an object store: a local server that speaks S3's protocol and that of the Hugging Face Hub.

#[path = "support/machine.rs"]
mod machine;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use glm_schemas::manifest::{Manifest, hex};
use glm_test_server::Objects;
use glm_tests::run;
use glm_tests::training::trainer_from;
use machine::{Machine, assert_sums, contents, data_set, sample, stored};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

#[test]
fn raw_data_is_streamed_and_shards_are_published() {
    let (server, folder) = sample();
    let machine = Machine::new(&server);
    server.cut_reads(2, 20_000);
    run(&mut machine.prep(&["ingest", "s3://bucket/raw", "--out", "s3://bucket/set"])).success();
    let mut local = contents(&folder.path().join("shards"), "");
    let mut remote = stored(&server, "bucket/set/shards");
    // The time and the command differ.
    local.retain(|(name, _)| name != "provenance.json");
    remote.retain(|(name, _)| !["provenance.json", "SHA256SUMS"].contains(&name.as_str()));
    assert!(local == remote, "{:?}", remote.iter().map(|(name, _)| name).collect::<Vec<_>>());
    assert_sums(&server, "bucket/set/shards");
    let last = server.requests().into_iter().rev().find(|request| request.starts_with("PUT ")).expect("a write");
    assert_eq!(last, "PUT /bucket/set/shards/manifest.json");
    assert!(contents(&machine.cache().join("ingest"), "").is_empty());

    // Another data set in the same place: at no time are there a manifest and shards that do not belong to it.
    let before = server.requests().len();
    run(&mut machine.prep(&["ingest", "s3://bucket/raw", "--out", "s3://bucket/set", "--rows-per-shard", "50"])).success();
    let writes: Vec<String> =
        server.requests().split_off(before).into_iter().filter(|request| !request.starts_with("GET")).collect();
    assert!(writes[0].starts_with("POST /bucket") || writes[0] == "DELETE /bucket/set/shards/manifest.json", "{writes:?}");
    let manifest = String::from_utf8(server.get("bucket/set/shards/manifest.json").expect("manifest")).expect("text");
    let manifest = Manifest::from_json(&manifest).expect("valid");
    let shards: usize = manifest.splits.values().map(|split| split.shards.len()).sum();
    let files = stored(&server, "bucket/set/shards/data");
    assert!(shards > 2 && files.len() == shards, "{shards} {}", files.len());
    assert_sums(&server, "bucket/set/shards");
    run(&mut machine.prep(&["verify", "s3://bucket/set"])).success();
    for place in ["s3://bucket/set", "s3://bucket/set/shards/data/val-00000-of-00001.parquet"] {
        let shown = run(&mut machine.prep(&["inspect", place, "--split", "val", "--rows", "1", "--json"])).success().stdout();
        assert_eq!(shown.lines().count(), 1, "{shown}");
        let shown = run(&mut machine.prep(&["inspect", place, "--split", "val", "--rows", "1"])).success().stdout();
        assert!(shown.contains(place) && !shown.contains(&machine.cache().display().to_string()), "{shown}");
    }
    let page = folder.path().join("page.html");
    let report = ["report", "s3://bucket/set", "--json", "--out", page.to_str().expect("text")];
    let report: Value = serde_json::from_str(&run(&mut machine.prep(&report)).success().stdout()).expect("json");
    assert_eq!(report["shards"], "s3://bucket/set");
    assert!(fs::read_to_string(&page).expect("a page").contains("<title>s3://bucket/set"));
}

#[test]
fn single_files_globs_and_lists_are_read() {
    let (server, folder) = sample();
    let machine = Machine::new(&server);
    let expected = fs::read_to_string(folder.path().join("shards/manifest.json")).expect("manifest");
    let rows =
        |text: &str| Manifest::from_json(text).expect("valid").splits.values().map(|split| split.rows).collect::<Vec<_>>();
    let ingested = |name: &str, arguments: &[&str]| {
        let out = machine.home.path().join(name);
        let out = out.to_str().expect("text");
        let arguments: Vec<&str> = ["ingest"]
            .into_iter()
            .chain(arguments.iter().copied().map(|word| if word == "OUT" { out } else { word }))
            .collect();
        run(&mut machine.prep(&arguments)).success();
        rows(&fs::read_to_string(format!("{out}/shards/manifest.json")).expect("manifest"))
    };
    assert_eq!(ingested("one", &["s3://bucket/raw/ReCoRD", "--out", "OUT"]), rows(&expected));
    let named = ["OUT", "--train", "s3://bucket/raw/*/train.jsonl", "--val", "s3://bucket/raw/ReCoRD/val.jsonl"];
    assert_eq!(ingested("two", &named), rows(&expected));
    server.put_folder(&folder.path().join("ReCoRD"), "datasets/org/record");
    assert_eq!(ingested("three", &["hf://datasets/org/record", "--out", "OUT"]), rows(&expected));
    // A server of files, without keys.
    let files = Objects::start();
    let mut sums = String::new();
    for (name, content) in contents(&folder.path().join("ReCoRD"), "") {
        sums += &format!("{}  {name}\n", hex(&Sha256::digest(&content)));
        files.put(&format!("raw/{name}"), content);
    }
    files.put("raw/SHA256SUMS", sums);
    assert_eq!(ingested("four", &[&format!("{}/raw", files.endpoint), "--out", "OUT"]), rows(&expected));
}

#[test]
fn mistakes_are_explained_once() {
    let (server, folder) = data_set();
    let machine = Machine::new(&server);
    let out = folder.path().join("out");
    let out = out.to_str().expect("text");
    let refused = |command: &mut Command, texts: &[&str]| {
        let finished = run(command);
        assert_eq!(finished.code(), Some(1), "{}{}", finished.stdout(), finished.stderr());
        for text in texts {
            assert!(finished.stderr().contains(text), "{text} in:\n{}", finished.stderr());
        }
        assert_eq!(finished.stderr().lines().filter(|line| line.contains("error: ") || line.contains("ERROR")).count(), 1);
    };
    let key = ["InvalidAccessKeyId", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"];
    refused(machine.prep(&["ingest", "s3://bucket/raw", "--out", out]).env("AWS_ACCESS_KEY_ID", "wrong"), &key);
    refused(
        machine
            .prep(&["ingest", folder.path().to_str().expect("text"), "--out", "s3://bucket/x"])
            .env("AWS_ACCESS_KEY_ID", "wrong"),
        &key,
    );
    refused(machine.train("s3://bucket/set", out, "1", &[]).env("AWS_ACCESS_KEY_ID", "wrong"), &key);
    refused(&mut machine.prep(&["ingest", "s3://bucket/raw"]), &["so the shards need a place: give --out DIR"]);
    refused(&mut machine.prep(&["ingest", "s3://bucket/none", "--out", out]), &["there are no files at s3://bucket/none"]);
    refused(
        &mut machine.prep(&["ingest", "s3://bucket/raw", "--out", "hf://datasets/a/b"]),
        &["cannot write to hf://datasets/a/b"],
    );
    refused(
        &mut machine.prep(&["stats", "s3://bucket/raw"]),
        &["s3://bucket/raw is not a data set", "glm-prep ingest DIR --out"],
    );
    refused(&mut machine.train("s3://bucket/set", "hf://org/run", "1", &[]), &["cannot write to hf://org/run"]);
    refused(machine.train("ftp://bucket/set", out, "1", &[]).env("X", ""), &["ftp://bucket/set: its scheme is not supported"]);
    server.put("bucket/other/shards/notes.txt", "mine");
    let other = ["ingest", "s3://bucket/raw", "--out", "s3://bucket/other"];
    refused(&mut machine.prep(&other), &["s3://bucket/other/shards contains `notes.txt`"]);
    refused(
        machine.train("s3://bucket/set", out, "1", &[]).env("GLM_CACHE_LIMIT", "10"),
        &["set GLM_CACHE_LIMIT to a larger size"],
    );
}

#[test]
fn shards_that_differ_from_the_manifest_are_refused() {
    let (server, _folder) = data_set();
    let machine = Machine::new(&server);
    let shard = server.names().into_iter().find(|name| name.contains("/val-")).expect("a shard");
    let content = server.get(&shard).expect("content");
    let mut other = content.clone();
    other[100] ^= 1;
    server.put(&shard, other);
    let finished = run(&mut machine.prep(&["stats", "s3://bucket/set"]));
    let text = finished.stderr();
    assert!(
        finished.code() == Some(1)
            && text.contains(&format!("s3://{shard} has sha256 "))
            && text.contains("manifest.json lists"),
        "{text}"
    );
    let kept = contents(&machine.cache(), "");
    assert!(
        !kept.iter().any(|(name, _)| name.contains("/val-")),
        "{:?}",
        kept.iter().map(|(name, _)| name).collect::<Vec<_>>()
    );
    // What was intact is kept, and the rest is downloaded when it is intact again.
    server.put(&shard, content);
    let before = server.requests().len();
    run(&mut machine.prep(&["stats", "s3://bucket/set"])).success();
    let shards = server.requests().split_off(before).into_iter().filter(|request| request.ends_with(".parquet")).count();
    assert_eq!(shards, 1);
    // A file that was damaged in the cache is downloaded again.
    let damaged = contents(&machine.cache(), "").into_iter().find(|(name, _)| name.contains("/val-")).expect("a shard").0;
    fs::write(machine.cache().join(&damaged), "damaged").expect("write");
    run(&mut machine.prep(&["stats", "s3://bucket/set"])).success();
}

/// Returns a content with another bit at a position.
fn flipped(at: usize, mut content: Vec<u8>) -> Option<Vec<u8>> {
    content[at] ^= 1;
    Some(content)
}

/// A change of a file of a data set; `None` removes it.
type Change = fn(Vec<u8>) -> Option<Vec<u8>>;

#[test]
fn faults_at_a_url_are_those_of_a_folder() {
    let (server, folder) = data_set();
    let machine = Machine::new(&server);
    // A server of files, which does not list them.
    let files = Objects::start();
    files.put_folder(&folder.path().join("shards"), "set");
    let on_server = format!("{}/set", files.endpoint);
    let verified = |place: &str| -> (Option<i32>, Value) {
        let finished = run(&mut machine.prep(&["verify", place, "--json"]));
        (finished.code(), serde_json::from_str(&finished.stdout()).unwrap_or_else(|_| panic!("{}", finished.stderr())))
    };
    // Files in the cache are not those in the store.
    run(&mut machine.prep(&["stats", "s3://bucket/set"])).success();
    let (code, sound) = verified("s3://bucket/set");
    assert_eq!((code, &sound["sound"], &sound["shards"]), (Some(0), &json!(true), &json!("s3://bucket/set/shards")));
    let local = folder.path().to_str().expect("text");
    let shard = "data/val-00000-of-00001.parquet";
    let changes: [(&str, Change, &str); 5] = [
        (shard, |content| flipped(100, content), "sha256 "),
        (shard, |content| Some(content[..content.len() - 7].to_vec()), " bytes"),
        (shard, |_| None, "no such file"),
        ("manifest.json", |content| flipped(content.len() / 2, content), ""),
        ("data/other.parquet", |_| Some(vec![0]), "a file that is not in the manifest"),
    ];
    for (name, change, found) in changes {
        let path = folder.path().join("shards").join(name);
        let original = fs::read(&path).ok();
        let put = |content: Option<Vec<u8>>| {
            match &content {
                Some(content) => fs::write(&path, content).expect("write"),
                None => fs::remove_file(&path).expect("remove"),
            }
            for (server, place) in [(&server, "bucket/set/shards"), (&files, "set")] {
                match &content {
                    Some(content) => server.put(&format!("{place}/{name}"), content.clone()),
                    None => server.remove(&format!("{place}/{name}")),
                }
            }
        };
        put(change(original.clone().unwrap_or_default()));
        let [(code, here), (at_url, there), (at_server, unlisted)] = [local, "s3://bucket/set", &on_server].map(verified);
        assert_eq!((code, at_url), (Some(4), Some(4)), "{name}: {there}");
        assert!(here["fault"]["found"].as_str().expect("a text").contains(found), "{here}");
        assert_eq!((&here["fault"], &here["splits"]), (&there["fault"], &there["splits"]));
        match original.is_some() {
            true => assert_eq!((at_server, &unlisted["fault"]), (Some(4), &here["fault"])),
            false => assert_eq!(at_server, Some(0)),
        }
        put(original);
    }
    assert_eq!(verified("s3://bucket/set").0, Some(0));
    assert!(!contents(&machine.cache(), "").iter().any(|(name, _)| name.contains("unnamed")));
    let refused = run(machine.prep(&["verify", "s3://bucket/set"]).env("AWS_ACCESS_KEY_ID", "wrong"));
    assert_eq!(refused.code(), Some(1), "{}", refused.stderr());
}

#[test]
fn training_on_damaged_shards_fails_alike_at_a_url() {
    let (server, folder) = data_set();
    let machine = Machine::new(&server);
    let name = "shards/data/train-00000-of-00001.parquet";
    let path = folder.path().join(name);
    let mut content = fs::read(&path).expect("a shard");
    let at = content.windows(10).rposition(|window| window == b"parquet-rs").expect("name of the writer");
    content[at] = b'P';
    fs::write(&path, &content).expect("write");
    server.put(&format!("bucket/set/{name}"), content);
    for (place, out) in [(folder.path().to_str().expect("text"), "here"), ("s3://bucket/set", "there")] {
        let out = folder.path().join(out);
        let finished = run(&mut machine.train(place, out.to_str().expect("text"), "2", &[]));
        let text = finished.stderr();
        assert_eq!(finished.code(), Some(1), "{place}: {text}");
        assert!(text.contains("train-00000-of-00001.parquet") && text.contains("manifest"), "{text}");
        assert!(!out.join("checkpoints/latest").exists(), "{place}");
    }
}

#[test]
fn a_run_with_everything_in_a_store_is_that_of_local_folders() {
    let (server, folder) = data_set();
    let machine = Machine::new(&server);
    let data = folder.path().to_str().expect("text");
    let local = folder.path().join("run");
    run(&mut machine.train(data, local.to_str().expect("text"), "12", &[])).success();
    run(&mut machine.train("s3://bucket/set", "s3://bucket/run", "8", &[])).success();
    let step = "bucket/run/checkpoints/step-00000008";
    assert_eq!(server.get("bucket/run/checkpoints/latest").expect("latest"), b"step-00000008");
    assert_sums(&server, step);
    for file in ["config.toml", "metrics.jsonl", "sessions.jsonl"] {
        assert!(server.get(&format!("bucket/run/{file}")).is_some(), "{file}");
    }
    // Another machine resumes it: settings and data set come from the run.
    let other = Machine::new(&server);
    run(&mut other.trainer(&["run", "--device", "cpu", "--resume", "--out", "s3://bucket/run", "--max-steps", "12"])).success();
    let weights = "checkpoints/step-00000012/model.safetensors";
    assert!(server.get(&format!("bucket/run/{weights}")) == fs::read(local.join(weights)).ok());
    let kept = server.names().into_iter().filter(|name| name.ends_with("state.json")).count();
    assert!((1..=4).contains(&kept), "{kept}");

    // A third one evaluates and reports.
    let third = Machine::new(&server);
    let evaluated = |machine: &Machine, data: &str, init: &str| -> Value {
        let mut command = machine.trainer(&["eval", "--device", "cpu", "--json", "--data", data, "--init", init]);
        serde_json::from_str(&run(&mut command).success().stdout()).expect("json")
    };
    let (here, there) =
        (evaluated(&third, data, local.to_str().expect("text")), evaluated(&third, "s3://bucket/set", "s3://bucket/run"));
    assert_eq!((&here["accuracy"], &here["loss"]), (&there["accuracy"], &there["loss"]));
    assert!(there.to_string().contains("s3://bucket/set"), "{there}");
    let path = there["weights"]["path"].as_str().expect("a path");
    assert!(path.starts_with("s3://bucket/run/checkpoints/step-") && path.ends_with("/model.safetensors"), "{path}");
    run(&mut third.trainer(&["report", "s3://bucket/run"])).success();
    let page = String::from_utf8(server.get("bucket/run/report.html").expect("a page")).expect("text");
    assert!(page.contains("s3://bucket/set"));
    let missing =
        run(&mut third.trainer(&["eval", "--device", "cpu", "--data", data, "--init", "s3://bucket/run", "--checkpoint", "3"]));
    assert!(missing.stderr().contains("s3://bucket/run has no such checkpoint"), "{}", missing.stderr());
}

#[test]
fn a_killed_run_leaves_a_complete_checkpoint_in_the_store() {
    let (server, _folder) = data_set();
    let machine = Machine::new(&server);
    let mut command = machine.train("s3://bucket/set", "s3://bucket/run", "100000", &["--epochs", "10000"]);
    let mut training = command.stderr(std::process::Stdio::null()).spawn().expect("start");
    let start = Instant::now();
    // The second one, so that the first may be replaced.
    let latest = || server.get("bucket/run/checkpoints/latest").map(|name| String::from_utf8(name).expect("text"));
    let mut seen: Vec<String> = Vec::new();
    while seen.len() < 2 {
        assert!(start.elapsed() < Duration::from_secs(120), "no checkpoint: {:?}", server.names());
        seen.extend(latest().filter(|name| !seen.contains(name)));
        std::thread::sleep(Duration::from_millis(5));
    }
    training.kill().expect("kill");
    training.wait().expect("wait");
    let folder = format!("bucket/run/checkpoints/{}", latest().expect("latest"));
    assert_sums(&server, &folder);
    let other = Machine::new(&server);
    let resumed = run(other
        .trainer(&["run", "--device", "cpu", "--resume", "--out", "s3://bucket/run", "--max-steps", "1"])
        .env("X", ""));
    assert!(resumed.code() == Some(0) || resumed.stderr().contains("max_steps"), "{}", resumed.stderr());
}

#[test]
fn the_hub_and_servers_of_files_hold_data_sets_and_weights() {
    let (server, folder) = data_set();
    let machine = Machine::new(&server);
    let local = folder.path().join("run");
    run(&mut machine.train(folder.path().to_str().expect("text"), local.to_str().expect("text"), "4", &[])).success();
    let weights = fs::read(local.join("checkpoints/step-00000004/model.safetensors")).expect("weights");
    server.put("org/model/model.safetensors", weights.clone());
    server.put("org/model/README.md", "a model");
    server.put_folder(&folder.path().join("shards"), "datasets/org/set");
    let files = Objects::start();
    files.put_folder(&folder.path().join("shards"), "set");
    files.put("model.safetensors", weights);
    let places = [
        ("hf://datasets/org/set@main".to_owned(), "hf://org/model".to_owned()),
        (format!("{}/set", files.endpoint), format!("{}/model.safetensors?signature=1", files.endpoint)),
    ];
    for (data, init) in places {
        let mut command = machine.trainer(&["eval", "--device", "cpu", "--json", "--data", &data, "--init", &init]);
        let result: Value = serde_json::from_str(&run(&mut command).success().stdout()).expect("json");
        assert!(result["accuracy"].is_number(), "{result}");
    }
    // Signatures of URLs are not recorded.
    let (data, out) = (format!("{}/set", files.endpoint), folder.path().join("signed"));
    let init = format!("{}/model.safetensors?signature=secret", files.endpoint);
    let mut command = trainer_from(Path::new(&init), Path::new(&data), &out);
    run(machine.on(command.args(["--max-steps", "1"]))).success();
    for (name, content) in contents(&out, "") {
        assert!(!String::from_utf8_lossy(&content).contains("secret"), "{name}");
    }
    assert!(fs::read_to_string(out.join("sessions.jsonl")).expect("sessions").contains("/model.safetensors"));
    assert!(!server.requests().iter().any(|request| request.contains("README")));
}
