//! Generation with a cache against forward passes over whole sequences, for every backend of a CPU.

use std::sync::Arc;

use glm_schemas::vocab::{SpecialIds, TokenId};
use proptest::prelude::*;
use tch::{Device, Kind};

use super::*;
use crate::batch::packed::Batch;
use crate::model::{Kernels, ModelConfig, Preset};

const SOP: TokenId = 61;
const EOP: TokenId = 62;
const POSITIONS: usize = 40;

/// A small model whose distributions are far from flat.
fn model(kind: Kind) -> Glm {
    let config = ModelConfig {
        layers: 3,
        hidden: 32,
        heads: 4,
        vocab_rows: 64,
        positions: POSITIONS,
        init_std: 0.35,
        ..Preset::TINY.config()
    };
    tch::manual_seed(5);
    Glm::random(&config, kind, Device::Cpu).expect("model")
}

/// All backends of a CPU, with the largest deviation that rounding explains.
fn modes() -> [(Pass, f64); 5] {
    [
        (Pass::evaluation(Kind::Double, Kernels::Auto), 1e-9),
        (Pass::evaluation(Kind::Double, Kernels::Torch), 1e-9),
        (Pass::evaluation(Kind::Float, Kernels::Auto), 1e-3),
        (Pass::evaluation(Kind::Float, Kernels::Torch), 1e-3),
        (Pass::evaluation(Kind::BFloat16, Kernels::Auto), 0.6),
    ]
}

fn parameters(pass: Pass) -> Kind {
    if pass.kind == Kind::Double { Kind::Double } else { Kind::Float }
}

/// Log probabilities of pieces by a forward pass over the whole sequence, without a cache.
fn without_cache(model: &Glm, pass: &Pass, context: &Context, pieces: &[&Hypothesis]) -> Vec<f64> {
    let mut batch = Batch::default();
    batch.push_context(&context.ids);
    let start = context.ids.len();
    let mut groups = 0;
    for (piece, &blank) in pieces.iter().zip(&context.blanks) {
        let fed = [SOP].into_iter().chain(piece.tokens.iter().copied());
        let mut next = piece.tokens.iter().copied().chain(piece.end.map(|end| end.token));
        for (token, block_position) in fed.zip(1..) {
            let scored = batch.push_scored(token, blank as i64, block_position, start);
            if let Some(target) = next.next() {
                batch.push_target(scored, target, groups);
                groups += 1;
            }
        }
    }
    batch.end_row(0, 0);
    batch.end_example(0, 0, groups);
    let batch = Arc::new(batch).to_device(Device::Cpu, model.backend(pass).layout()).expect("batch");
    let found = tch::no_grad(|| model.target_log_probs(&batch, pass)).expect("log probabilities");
    Vec::<f64>::try_from(found.to_kind(Kind::Double)).expect("numbers")
}

fn run(model: &Glm, pass: Pass, contexts: &[Context], settings: &Settings) -> Vec<Vec<Vec<Hypothesis>>> {
    let requests: Vec<_> =
        (0..).zip(contexts).map(|(key, context)| Request { context: context.clone(), key, search: None }).collect();
    let mut found = vec![Vec::new(); contexts.len()];
    Generator::new(model, pass, settings.clone())
        .run(&requests, &mut |event| {
            if let Event::Done { request, pieces } = event {
                found[request] = pieces;
            }
            Ok(())
        })
        .expect("generation");
    found
}

/// Largest difference of log probabilities from those without a cache.
fn deviation(model: &Glm, pass: &Pass, context: &Context, pieces: &[&Hypothesis]) -> f64 {
    let expected = without_cache(model, pass, context, pieces);
    let found: Vec<f64> =
        pieces.iter().flat_map(|piece| piece.log_probs.iter().copied().chain(piece.end.map(|end| end.log_prob))).collect();
    assert_eq!(found.len(), expected.len());
    found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

fn settings(search: Search, sequences: usize) -> Settings {
    Settings { search, start: SOP, ends: vec![EOP], sequences, batch_tokens: 30, ..Settings::default() }
}

fn sampling(max_length: usize, seed: u64) -> Search {
    let limits = Limits { ngram: 0, min_length: 0, max_length };
    Search::Sample { filter: Filter { temperature: 1.2, ..Filter::NONE }, seed, limits }
}

fn contexts() -> impl Strategy<Value = Vec<Context>> {
    let context = prop::collection::vec(1_i32..60, 1..30).prop_flat_map(|ids| {
        let blank = 0..ids.len();
        (Just(ids), prop::collection::vec(blank, 1..4)).prop_map(|(ids, blanks)| Context { ids, blanks })
    });
    prop::collection::vec(context, 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5, ..ProptestConfig::default() })]

    #[test]
    fn a_cache_changes_no_log_probability(contexts in contexts(), sequences in 1_usize..5, length in 1_usize..9, seed: u64) {
        for (pass, tolerance) in modes() {
            let model = model(parameters(pass));
            let found = run(&model, pass, &contexts, &settings(sampling(length, seed), sequences));
            for (context, pieces) in contexts.iter().zip(&found) {
                prop_assert_eq!(pieces.len(), context.blanks.len());
                let best: Vec<_> = pieces.iter().map(|piece| &piece[0]).collect();
                let off = deviation(&model, &pass, context, &best);
                prop_assert!(off < tolerance, "{:?}: off by {}", pass, off);
            }
        }
    }

    #[test]
    fn beams_have_the_log_probabilities_of_their_own_tokens(
        contexts in contexts(), sequences in 1_usize..4, beams in 1_usize..5, length in 1_usize..9,
    ) {
        for (pass, tolerance) in modes() {
            let model = model(parameters(pass));
            let beam = BeamSettings { beams, max_length: length, length_penalty: 0.7, ..BeamSettings::default() };
            let found = run(&model, pass, &contexts, &settings(Search::Beam(beam), sequences));
            for (context, pieces) in contexts.iter().zip(&found) {
                let (last, before) = pieces.split_last().expect("blanks");
                prop_assert!(!last.is_empty() && last.len() <= beams);
                for hypothesis in last {
                    let pieces: Vec<_> = before.iter().map(|piece| &piece[0]).chain([hypothesis]).collect();
                    let off = deviation(&model, &pass, context, &pieces);
                    prop_assert!(off < tolerance, "{:?}: off by {}", pass, off);
                }
            }
        }
    }

    #[test]
    fn results_do_not_depend_on_the_batch(contexts in contexts(), seed: u64, beams in 2_usize..4) {
        let pass = Pass::evaluation(Kind::Double, Kernels::Auto);
        let model = model(Kind::Double);
        let beam = BeamSettings { beams, max_length: 6, ..BeamSettings::default() };
        for search in [sampling(6, seed), Search::Beam(beam)] {
            let tokens = |sequences| {
                let found = run(&model, pass, &contexts, &settings(search, sequences));
                found.into_iter().flatten().flatten().map(|piece| piece.tokens).collect::<Vec<_>>()
            };
            let alone = tokens(1);
            prop_assert_eq!(&alone, &tokens(2));
            prop_assert_eq!(&alone, &tokens(8));
        }
    }
}

#[test]
fn invalid_requests_and_settings_are_refused_before_anything_is_generated() {
    let (model, pass) = (model(Kind::Float), Pass::evaluation(Kind::Float, Kernels::Auto));
    let context = |tokens, blanks: &[usize]| Context { ids: vec![1; tokens], blanks: blanks.to_vec() };
    let refused = |contexts: &[Context], search| {
        let requests: Vec<_> = contexts.iter().cloned().map(|context| Request { context, key: 0, search: None }).collect();
        let generator = Generator::new(&model, pass, settings(search, 2));
        let result = generator.run(&requests, &mut |_| panic!("something was generated"));
        result.expect_err("refused").to_string()
    };
    let fits = context(POSITIONS, &[POSITIONS - 1]);
    for (context, message) in [
        (context(POSITIONS + 1, &[0]), "request 1: the context has 41 tokens, but the weights have 40 positions"),
        (context(3, &[]), "request 1: the context has no blank"),
        (context(3, &[0, 3]), "request 1: the blank at token 3 is outside the context, which has 3 tokens"),
    ] {
        assert!(refused(&[fits.clone(), context], sampling(3, 1)).starts_with(message), "{message}");
    }
    let limits = |min_length, max_length| Search::Greedy(Limits { ngram: 0, min_length, max_length });
    let sample = |filter| Search::Sample { filter, seed: 0, limits: Limits { ngram: 0, min_length: 0, max_length: 3 } };
    for (search, message) in [
        (limits(0, 0), "the maximum number of tokens is 0; it must be 1 to 38"),
        (limits(0, 39), "the maximum number of tokens is 39; it must be 1 to 38, because the weights have 40 block positions"),
        (limits(4, 3), "the minimum number of tokens, 4, is above the maximum, 3"),
        (sample(Filter { temperature: 0.0, ..Filter::NONE }), "the temperature is 0; it must be above 0"),
        (sample(Filter { top_p: 1.5, ..Filter::NONE }), "top-p is 1.5; it must be between 0 and 1"),
        (
            Search::Beam(BeamSettings { length_penalty: f64::NAN, ..BeamSettings::default() }),
            "the length penalty is NaN; it must be a number",
        ),
    ] {
        let error = match search {
            Search::Beam(settings) => {
                refused(std::slice::from_ref(&fits), Search::Beam(BeamSettings { max_length: 3, ..settings }))
            }
            search => refused(std::slice::from_ref(&fits), search),
        };
        assert!(error.starts_with(message), "{error}");
    }
    let found = run(&model, pass, &[fits.clone(), fits], &settings(limits(38, 38), 1));
    assert!(found.iter().all(|pieces| pieces[0][0].tokens.len() == 38), "the longest requests fit");
}

#[test]
fn weights_that_are_not_a_number_are_reported() {
    let model = model(Kind::Float);
    let parameter = model.parameters().iter().next().expect("parameters");
    let _filled = tch::no_grad(|| parameter.tensor.shallow_clone().fill_(f64::NAN));
    let contexts = [Context { ids: vec![1, 2, 3], blanks: vec![1] }];
    let special = SpecialIds { sop: SOP, eop: EOP, ..SpecialIds::BERT_UNCASED };
    let pass = Pass::evaluation(Kind::Float, Kernels::Auto);
    let error = beam_search(&model, &pass, special, &contexts, &BeamSettings { max_length: 3, ..BeamSettings::default() }, 2);
    assert!(error.is_err_and(|error| error.to_string().contains("request 0: the model's output is not a number")));
}

#[test]
fn memory_is_that_of_the_longest_sequences() {
    let (model, pass) = (model(Kind::Float), Pass::evaluation(Kind::Float, Kernels::Auto));
    let mut cache = crate::model::KeyValueCache::new(model.config(), Kind::Float, Device::Cpu, 2);
    let start = crate::model::NewToken { id: SOP, position: 0, block_position: 1 };
    let ids = [3; 20];
    let logits = model.start_sequences([(&ids[..5], start), (&ids[..], start)], &pass, &mut cache).expect("start");
    assert_eq!((logits.size(), cache.shared_lengths()), (vec![2, 64], &[6, 21][..]));
    // Keys and values of 3 layers of width 32 in 4 bytes, for 64 shared tokens.
    assert_eq!(cache.bytes(), 2 * 64 * 2 * 3 * 32 * 4);
    let tokens = [crate::model::NewToken { id: 3, position: 0, block_position: 2 }; 4];
    let _ = model.append_to_beams(&tokens, &pass, &mut cache).expect("step");
    assert_eq!((cache.own_lengths(), cache.bytes()), (&[1, 1][..], 2 * (64 + 2 * 32) * 2 * 3 * 32 * 4));
    assert!(model.append_to_beams(&tokens[..3], &pass, &mut cache).is_err());
    cache.remove(0).expect("remove");
    assert_eq!((cache.sequences(), cache.shared_lengths()), (1, &[21][..]));
}

#[test]
fn requests_have_searches_of_their_own() {
    let (model, pass) = (model(Kind::Double), Pass::evaluation(Kind::Double, Kernels::Auto));
    let limits = |max_length| Limits { ngram: 0, min_length: 0, max_length };
    let beam = |beams| Search::Beam(BeamSettings { beams, max_length: 5, ..BeamSettings::default() });
    let searches = [Some(beam(3)), None, Some(sampling(7, 4)), Some(Search::Greedy(limits(2))), Some(beam(2)), Some(beam(3))];
    let default = Search::Greedy(limits(6));
    let request = |(number, search): (usize, &Option<Search>)| {
        let context = Context { ids: (1..8 + number as i32).collect(), blanks: vec![number, 2] };
        Request { context, key: 9, search: *search }
    };
    let requests: Vec<_> = searches.iter().enumerate().map(request).collect();
    let mut found = vec![Vec::new(); requests.len()];
    let generator = Generator::new(&model, pass, settings(default, 2));
    let run = generator.run(&requests, &mut |event| {
        if let Event::Done { request, pieces } = event {
            found[request] = pieces;
        }
        Ok(())
    });
    run.expect("generation");
    for (request, found) in requests.iter().zip(&found) {
        let settings = settings(request.search.unwrap_or(default), 1);
        let mut alone = Vec::new();
        let only = Request { search: None, ..request.clone() };
        let run = Generator::new(&model, pass, settings).run(&[only], &mut |event| {
            if let Event::Done { pieces, .. } = event {
                alone = pieces;
            }
            Ok(())
        });
        run.expect("generation");
        let tokens = |pieces: &[Vec<Hypothesis>]| pieces.iter().flatten().map(|piece| piece.tokens.clone()).collect::<Vec<_>>();
        assert_eq!(tokens(found), tokens(&alone), "{:?}", request.search);
    }
    let invalid = Request { search: Some(Search::Greedy(limits(0))), ..requests[0].clone() };
    assert!(generator.run(&[requests[0].clone(), invalid], &mut |_| panic!("something was generated")).is_err());
}

#[test]
fn memory_that_runs_out_names_the_setting_to_change() {
    let error = |texts, beams| {
        let source = tch::TchError::Torch("CUDA out of memory".to_owned());
        GenerateError::OutOfMemory { texts, beams, tokens: 300, setting: "--batch-size", source }.to_string()
    };
    assert_eq!(
        error(9, 2),
        "out of memory in generation for 9 texts together; set --batch-size to 4 or less, which does not change results"
    );
    assert!(error(1, 5).ends_with("with 5 beams for a text of 300 tokens; use fewer beams"));
    assert!(error(1, 1).ends_with("for a text of 300 tokens; shorten it, or use precision bf16"));
}
