//! Tests of loader and feeder: order of samples, resuming, and shutdown of all threads after a fault in any stage.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use tch::{Device, TchError, Tensor};

use super::DataError;
use super::feed::Feeder;
use super::loader::{Loader, LoaderConfig, Stages, Step};
use super::pack::{Packer, Sample};
use super::sampler::{Order, Position, Sampler};
use super::synthetic::{group_at, packer};
use crate::batch::layout::{Layout, LayoutKind};
use crate::batch::transfer::{Direct, Ready, Transfer};
use crate::task::Purpose;
use crate::task::cloze::questions::SyntheticQuestion;

/// Number of rows in each row group of the synthetic split.
const GROUPS: [usize; 3] = [5, 2, 6];
const ROWS: usize = 13;

fn config(threads: usize) -> LoaderConfig {
    LoaderConfig {
        order: Order::Shuffled { seed: 1 },
        batch_size: 4,
        start: Position::default(),
        epochs: 3,
        threads,
        prefetch_steps: 2,
        packer: Packer { purpose: Purpose::Train, ..packer(64, 150) },
    }
}

/// Stages over a synthetic split whose rows all differ in length. Running threads of the loader hold clones of the `Arc`.
fn stages(packer: Packer) -> (Stages, Arc<()>) {
    let alive = Arc::new(());
    let held = Arc::clone(&alive);
    let stages = Stages {
        decode: Arc::new(move |index| {
            let _ = &held;
            let first: usize = GROUPS[..index].iter().sum();
            let questions: Vec<_> =
                (first..first + GROUPS[index]).map(|row| SyntheticQuestion::of_length(10 + 3 * row, 2)).collect();
            Ok(group_at(&questions, first))
        }),
        pack: Arc::new(move |samples| packer.pack(samples)),
    };
    (stages, alive)
}

fn start(config: LoaderConfig, stages: Stages) -> Loader {
    let sampler = Sampler::new(GROUPS.to_vec(), None, config.order, "synthetic");
    Loader::with_stages(sampler, config, stages).expect("starts")
}

fn all_steps(mut loader: Loader) -> Vec<Step> {
    std::iter::from_fn(|| loader.next_step().expect("no error")).collect()
}

fn run(config: LoaderConfig) -> Vec<Step> {
    let (stages, _) = stages(config.packer.clone());
    all_steps(start(config, stages))
}

#[test]
fn every_question_occurs_once_per_epoch_and_row_keys_follow_the_order() {
    let steps = run(config(2));
    let sizes: Vec<_> = steps.iter().map(|step| step.samples.len()).collect();
    assert_eq!(sizes, [4, 4, 4, 1, 4, 4, 4, 1, 4, 4, 4, 1]);
    assert_eq!(steps[1].position, Position { epoch: 0, samples: 8 });
    assert_eq!(steps[3].position, Position { epoch: 1, samples: 0 });
    for (epoch, steps) in steps.chunks(4).enumerate() {
        let mut rows: Vec<_> =
            steps.iter().flat_map(|step| &step.batches).flat_map(|batch| batch.examples.iter().map(|q| q.row)).collect();
        rows.sort_unstable();
        assert!(rows.into_iter().eq(0..ROWS));
        for step in steps {
            let mut packed: Vec<_> = step.batches.iter().flat_map(|batch| batch.examples.iter().map(|q| q.row)).collect();
            packed.sort_unstable();
            let mut split_rows: Vec<_> = step.samples.iter().map(Sample::split_row).collect();
            split_rows.sort_unstable();
            assert_eq!(split_rows, packed);
        }
        let mut keys: Vec<_> =
            steps.iter().flat_map(|step| &step.batches).flat_map(|batch| batch.inputs.row_key.iter().copied()).collect();
        let first = (epoch * ROWS) as u64;
        let mut expected: Vec<_> = (first..first + ROWS as u64).map(|ordinal| crate::batch::key::row_key(ordinal, 0)).collect();
        keys.sort_unstable();
        expected.sort_unstable();
        assert_eq!(keys, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// The number of threads does not matter, and a loader that starts in the middle delivers the rest of the steps.
    #[test]
    fn steps_do_not_depend_on_threads_or_start_position(
        threads in 1_usize..5, other in 1_usize..5, prefetch_steps in 0_usize..5, epoch in 0_u64..3, step in 0_usize..5,
    ) {
        let whole = run(config(threads));
        let start = Position { epoch, samples: (4 * step).min(ROWS) };
        let rest = run(LoaderConfig { start, prefetch_steps, ..config(other) });
        prop_assert_eq!(&whole[4 * epoch as usize + step..], &rest[..]);
    }
}

#[test]
fn dropping_the_loader_ends_its_threads() {
    for taken in 0..4 {
        let (stages, alive) = stages(config(2).packer);
        let mut loader = start(LoaderConfig { epochs: u64::MAX, ..config(2) }, stages);
        for _ in 0..taken {
            loader.next_step().expect("no error").expect("a step");
        }
        drop(loader);
        assert_eq!(Arc::strong_count(&alive), 1, "a thread is still running");
    }
}

/// A fault to inject into a stage.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Error,
    Panic,
}

impl Fault {
    fn happen(self) -> TchError {
        match self {
            Self::Error => TchError::Torch("injected".to_owned()),
            Self::Panic => panic!("injected"),
        }
    }

    #[track_caller]
    fn check(self, error: &DataError) {
        match (self, error) {
            (Self::Error, DataError::Torch(TchError::Torch(text))) if text == "injected" => {}
            (Self::Panic, DataError::Panicked) => {}
            (fault, error) => panic!("{fault:?} arrived as {error:?}"),
        }
    }
}

/// A transfer whose call number `at` fails.
#[derive(Debug)]
struct Faulty {
    inner: Direct,
    fault: Option<(Fault, usize)>,
    calls: usize,
}

impl Faulty {
    fn never() -> Self {
        Self { inner: Direct::to(Device::Cpu), fault: None, calls: 0 }
    }
}

impl Transfer for Faulty {
    fn pin(&mut self, columns: &[&[i64]]) -> Result<Tensor, TchError> {
        self.inner.pin(columns)
    }

    fn copy_async(&mut self, pinned: &Tensor) -> Result<Tensor, TchError> {
        self.inner.copy_async(pinned)
    }

    fn ready(&mut self) -> Result<Box<dyn Ready>, TchError> {
        self.calls += 1;
        match self.fault {
            Some((fault, at)) if self.calls > at => Err(fault.happen()),
            _ => self.inner.ready(),
        }
    }
}

/// Takes steps until the fault arrives, and returns their number.
#[track_caller]
fn steps_before(fault: Fault, mut feeder: Feeder, alive: &Arc<()>) -> usize {
    let mut steps = 0;
    loop {
        match feeder.next_step() {
            Ok(Some(_)) => steps += 1,
            Ok(None) => panic!("ended without the error"),
            Err(error) => {
                fault.check(&error);
                // The error is delivered once, and all threads have ended although the feeder still exists.
                assert_eq!(Arc::strong_count(alive), 1, "a thread is still running");
                assert!(matches!(feeder.next_step(), Ok(None)));
                return steps;
            }
        }
    }
}

#[test]
fn a_fault_in_any_stage_arrives_after_all_earlier_steps_and_ends_all_threads() {
    for fault in [Fault::Error, Fault::Panic] {
        for threads in [1, 3] {
            let endless = LoaderConfig { epochs: u64::MAX, ..config(threads) };
            let feed = |stages, transfer: Faulty| {
                Feeder::with_transfer(start(endless.clone(), stages), Box::new(transfer), LayoutKind::Padded).expect("starts")
            };
            // Decoding the second epoch's first group fails, after the four steps of the first epoch.
            let (mut broken, alive) = stages(endless.packer.clone());
            let (decode, calls) = (broken.decode, AtomicUsize::new(0));
            broken.decode = Arc::new(move |group| match calls.fetch_add(1, Ordering::Relaxed) {
                call if call < GROUPS.len() => decode(group),
                _ => Err(fault.happen().into()),
            });
            assert_eq!(steps_before(fault, feed(broken, Faulty::never()), &alive), 4);

            // Packing step 5, the second of the second epoch, fails.
            let (mut broken, alive) = stages(endless.packer.clone());
            let pack = broken.pack;
            broken.pack = Arc::new(move |samples| match samples.iter().any(|sample| sample.ordinal == ROWS as u64 + 5) {
                false => pack(samples),
                true => Err(fault.happen().into()),
            });
            assert_eq!(steps_before(fault, feed(broken, Faulty::never()), &alive), 5);

            // Copying the seventh step fails.
            let (whole, alive) = stages(endless.packer.clone());
            assert_eq!(steps_before(fault, feed(whole, Faulty { fault: Some((fault, 6)), ..Faulty::never() }), &alive), 6);
        }
    }
}

#[test]
fn the_feeder_delivers_the_steps_of_the_loader() {
    let steps = run(config(2));
    let (stages, alive) = stages(config(2).packer);
    let mut feeder = Feeder::start(start(config(2), stages), Device::Cpu, LayoutKind::Packed).expect("starts");
    for step in steps {
        let fed = feeder.next_step().expect("no error").expect("a step");
        assert_eq!((fed.samples.len(), fed.weight), (step.samples.len(), step.weight));
        assert_eq!((fed.work().tokens, fed.position), (step.tokens(), step.position));
        for (fed, batch) in fed.batches.iter().zip(&step.batches) {
            assert_eq!(&fed.host, batch);
            let column = |tensor: &Tensor| Vec::<i64>::try_from(tensor.reshape([-1])).expect("integers");
            let (inputs, targets) = (&batch.inputs, &batch.targets);
            assert_eq!(column(&fed.ids), inputs.ids);
            assert_eq!(column(&fed.position), inputs.position);
            assert_eq!(column(&fed.block_position), inputs.block_position);
            assert_eq!(column(&fed.scored), targets.scored);
            assert_eq!(column(&fed.scored_index), targets.scored_index);
            assert_eq!(column(&fed.target), targets.token);
            assert_eq!(column(&fed.group), targets.group);
            assert_eq!(fed.task_columns.iter().map(column).collect::<Vec<_>>(), batch.task_columns);
            assert!(matches!(fed.layout, Layout::Packed));
        }
    }
    assert!(feeder.next_step().expect("no error").is_none());
    assert_eq!(Arc::strong_count(&alive), 1, "a thread is still running");
}

#[test]
fn dropping_the_feeder_ends_all_threads() {
    for taken in 0..4 {
        let (stages, alive) = stages(config(2).packer);
        let endless = LoaderConfig { epochs: u64::MAX, ..config(2) };
        let mut feeder = Feeder::start(start(endless.clone(), stages), Device::Cpu, LayoutKind::Padded).expect("starts");
        for _ in 0..taken {
            feeder.next_step().expect("no error").expect("a step");
        }
        drop(feeder);
        assert_eq!(Arc::strong_count(&alive), 1, "a thread is still running");
    }
}
