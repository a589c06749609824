//! Tests of finding weights.

use super::*;

fn folder_with(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("folder");
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("inside")).expect("folders");
        std::fs::write(path, text).expect("file");
    }
    folder
}

#[test]
fn weights_are_found_in_every_kind_of_folder() {
    let cases: [(&[(&str, &str)], &str); 10] = [
        (&[("model.safetensors", "")], "model.safetensors"),
        (
            &[("200000/mp_rank_00_model_states.pt", ""), ("latest_checkpointed_iteration.txt", "200000\n")],
            "200000/mp_rank_00_model_states.pt",
        ),
        (&[("9/mp_rank_00_model_states.pt", ""), ("10/mp_rank_00_model_states.pt", "")], "10/mp_rank_00_model_states.pt"),
        (&[("blank/7/mp_rank_00_model_states.pt", "")], "blank/7/mp_rank_00_model_states.pt"),
        (
            &[("checkpoints/latest", "b"), ("checkpoints/a/model.safetensors", ""), ("checkpoints/b/model.safetensors", "")],
            "checkpoints/b/model.safetensors",
        ),
        (
            &[("blocklm-large-blank/7/mp_rank_00_model_states.pt", ""), ("shards/manifest.json", ""), ("other/x", "")],
            "blocklm-large-blank/7/mp_rank_00_model_states.pt",
        ),
        (&[("pytorch_model.bin", ""), ("config.json", "")], "pytorch_model.bin"),
        (&[("model.safetensors.index.json", ""), ("pytorch_model.bin", "")], "model.safetensors.index.json"),
        (&[("pytorch_model.bin.index.json", ""), ("config.json", "")], "pytorch_model.bin.index.json"),
        (&[("latest", "b"), ("a/model.safetensors", ""), ("b/model.safetensors", "")], "b/model.safetensors"),
    ];
    for (files, expected) in cases {
        let folder = folder_with(files);
        assert_eq!(weights_file(folder.path()).expect("found"), folder.path().join(expected));
    }
}

#[test]
fn checkpoints_of_a_run_are_chosen() {
    let folder = folder_with(&[
        ("checkpoints/latest", "step-00000300"),
        ("checkpoints/best", "step-00000200"),
        ("checkpoints/step-00000100/model.safetensors", ""),
        ("checkpoints/step-00000200/model.safetensors", ""),
        ("checkpoints/step-00000300/model.safetensors", ""),
    ]);
    let run = folder.path();
    let found = |path: &Path, choice: Option<&str>| {
        let choice = choice.map(|text| text.parse().expect("a choice"));
        locate(path, choice).map(|Located { path, step, checkpoint }| {
            assert_eq!(path, run.join(format!("checkpoints/step-{:08}/model.safetensors", step.expect("a step"))));
            (step.expect("a step"), checkpoint.map(|choice| choice.to_string()))
        })
    };
    let of = |step: u64, choice: &str| (step, Some(choice.to_owned()));
    assert_eq!(found(run, None).expect("found"), of(200, "best"));
    for place in [run, &run.join("checkpoints")] {
        assert_eq!(found(place, Some("best")).expect("found"), of(200, "best"));
        assert_eq!(found(place, Some("latest")).expect("found"), of(300, "latest"));
        assert_eq!(found(place, Some("100")).expect("found"), of(100, "100"));
    }
    let error = found(run, Some("150")).expect_err("missing").to_string();
    assert!(error.contains("there is no checkpoint 150; the run has those of the steps 100, 200, 300"), "{error}");
    let one = run.join("checkpoints/step-00000300");
    assert_eq!(found(&one, None).expect("found"), (300, None));
    assert_eq!(found(&one.join("model.safetensors"), None).expect("found"), (300, None));
    let error = found(&one, Some("best")).expect_err("not a run").to_string();
    assert!(error.contains("--checkpoint best needs the folder of a run"), "{error}");
    std::fs::remove_file(run.join("checkpoints/best")).expect("remove");
    assert_eq!(found(run, None).expect("found"), of(300, "latest"));
    let error = found(run, Some("best")).expect_err("not evaluated").to_string();
    assert!(error.contains("use --checkpoint latest"), "{error}");
    assert!("newest".parse::<CheckpointChoice>().is_err_and(|error| error.contains("expected best, latest or the number")));
}

#[test]
fn other_files_with_the_name_of_an_archive_are_named() {
    let folder = folder_with(&[("junk.tar.bz2", "junk")]);
    let error = weights_file(&folder.path().join("junk.tar.bz2")).expect_err("junk").to_string();
    assert!(error.contains("junk.tar.bz2 is not a bzip2 archive"), "{error}");
}

#[test]
fn names_outside_the_folder_are_ignored() {
    let folder = folder_with(&[("x/checkpoints/latest", "../.."), ("model.safetensors", "")]);
    assert!(matches!(weights_file(&folder.path().join("x")), Err(CheckpointError::NotFound { .. })));
}

#[test]
fn an_empty_folder_is_an_error_with_the_expected_files() {
    let folder = folder_with(&[]);
    let message = weights_file(folder.path()).expect_err("empty").to_string();
    assert!(message.contains("expected model.safetensors"), "{message}");
}

#[test]
fn a_folder_of_runs_is_an_error_with_the_runs() {
    let files =
        ["one", "two"].map(|run| [format!("{run}/checkpoints/latest"), format!("{run}/checkpoints/a/model.safetensors")]);
    let files: Vec<_> = files.iter().flat_map(|[latest, file]| [(latest.as_str(), "a"), (file.as_str(), "")]).collect();
    let folder = folder_with(&files);
    let message = weights_file(folder.path()).expect_err("several").to_string();
    let shown = folder.path().display();
    assert!(message.ends_with(&format!("specify one of {shown}/one, {shown}/two")), "{message}");
    let random = weights_file(Path::new("random")).expect_err("no weights").to_string();
    assert!(random.contains("random weights are for `run` only; specify a file of weights"), "{random}");
}
