//! The protocol of sleeping, waking and closing under every order of its steps that the memory model allows.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --release -p glm-queue --test loom --target-dir target/loom
//! ```
//!
//! A sleeper that nobody wakes is a deadlock, which loom reports; so each test asserts little more than what arrives.
#![cfg(loom)]

use glm_queue::{Closed, bounded};
use loom::thread;

/// All orders with at most three preemptions: a known bound that finds nearly every bug and keeps the tests to seconds.
fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

#[test]
fn items_arrive_in_order_through_a_queue_of_one() {
    check(|| {
        let (sender, receiver) = bounded(1);
        let producer = thread::spawn(move || {
            for i in 0..3 {
                sender.send(i).expect("open");
            }
        });
        for i in 0..3 {
            assert_eq!(receiver.recv(), Some(i));
        }
        assert_eq!(receiver.recv(), None);
        producer.join().expect("no panic");
    });
}

#[test]
fn a_sleeping_receiver_is_woken_by_the_end_of_the_sender() {
    check(|| {
        let (sender, receiver) = bounded::<u32>(1);
        let consumer = thread::spawn(move || receiver.recv());
        drop(sender);
        assert_eq!(consumer.join().expect("no panic"), None);
    });
}

#[test]
fn a_sleeping_sender_is_woken_by_the_end_of_the_receiver() {
    check(|| {
        let (sender, receiver) = bounded(1);
        let producer = thread::spawn(move || (sender.send(1).is_ok(), sender.send(2)));
        drop(receiver);
        let (_, second) = producer.join().expect("no panic");
        assert_eq!(second, Err(Closed(2)));
    });
}

#[test]
fn what_was_sent_before_the_end_of_the_senders_is_delivered() {
    check(|| {
        let (sender, receiver) = bounded(2);
        let other = sender.clone();
        let producers = [thread::spawn(move || sender.send(1).is_ok()), thread::spawn(move || other.send(2).is_ok())];
        let mut received: Vec<i32> = std::iter::from_fn(|| receiver.recv()).collect();
        received.sort_unstable();
        assert_eq!(received, [1, 2]);
        for producer in producers {
            assert!(producer.join().expect("no panic"));
        }
    });
}

#[test]
fn two_sleeping_receivers_both_end() {
    check(|| {
        let (sender, receiver) = bounded(1);
        let consumers = [receiver.clone(), receiver].map(|receiver| thread::spawn(move || receiver.recv()));
        sender.send(7).expect("open");
        drop(sender);
        let mut received = consumers.map(|consumer| consumer.join().expect("no panic"));
        received.sort_unstable();
        assert_eq!(received, [None, Some(7)]);
    });
}

#[test]
fn one_end_wakes_all_receivers() {
    check(|| {
        let (sender, receiver) = bounded::<u32>(1);
        let consumers = [receiver.clone(), receiver].map(|receiver| thread::spawn(move || receiver.recv()));
        drop(sender);
        assert_eq!(consumers.map(|consumer| consumer.join().expect("no panic")), [None, None]);
    });
}

#[test]
fn closing_from_elsewhere_ends_both_sides() {
    check(|| {
        let (sender, receiver) = bounded(1);
        let closer = receiver.closer();
        let producer = thread::spawn(move || (0..2).take_while(|&i| sender.send(i).is_ok()).count());
        let consumer = thread::spawn(move || std::iter::from_fn(|| receiver.recv()).collect::<Vec<_>>());
        closer.close();
        let sent = producer.join().expect("no panic");
        // What was being sent while the queue closed may be lost, but nothing comes twice or out of order.
        let received = consumer.join().expect("no panic");
        assert!(received.len() <= sent && (0..2).take(received.len()).eq(received));
    });
}
