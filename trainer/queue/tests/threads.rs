//! The queue under real threads; the model checker's tests are in loom.rs.
#![cfg(not(loom))]

use std::sync::Arc;
use std::thread;

use glm_queue::{Closed, bounded};

#[test]
fn many_items_from_many_threads_arrive_once_each_and_in_order_of_their_sender() {
    const ITEMS: usize = 20_000;
    for capacity in [0, 1, 3, 64] {
        let (sender, receiver) = bounded(capacity);
        let producers: Vec<_> = (0..4)
            .map(|producer| {
                let sender = sender.clone();
                thread::spawn(move || (0..ITEMS).for_each(|i| sender.send((producer, i)).expect("open")))
            })
            .collect();
        drop(sender);
        let consumers: Vec<_> = (0..3)
            .map(|_| {
                let receiver = receiver.clone();
                thread::spawn(move || std::iter::from_fn(|| receiver.recv()).collect::<Vec<_>>())
            })
            .collect();
        producers.into_iter().for_each(|thread| thread.join().expect("no panic"));
        let received: Vec<Vec<_>> = consumers.into_iter().map(|thread| thread.join().expect("no panic")).collect();
        for of_one in &received {
            for producer in 0..4 {
                assert!(of_one.iter().filter(|(from, _)| *from == producer).is_sorted());
            }
        }
        let mut all: Vec<_> = received.into_iter().flatten().collect();
        all.sort_unstable();
        assert!(all.into_iter().eq((0..4).flat_map(|producer| (0..ITEMS).map(move |i| (producer, i)))));
    }
}

#[test]
fn a_closed_queue_gives_the_item_back_and_delivers_what_it_holds() {
    let (sender, receiver) = bounded(2);
    sender.send(1).expect("open");
    receiver.closer().close();
    assert_eq!(sender.send(2), Err(Closed(2)));
    assert_eq!((receiver.recv(), receiver.recv()), (Some(1), None));
}

#[test]
fn a_thread_that_panics_closes_its_end() {
    let (sender, receiver) = bounded(1);
    let producer = thread::spawn(move || {
        sender.send(1).expect("open");
        panic!("meant to");
    });
    assert_eq!((receiver.recv(), receiver.recv()), (Some(1), None));
    assert!(producer.join().is_err());
}

#[test]
fn items_that_nobody_took_are_dropped_with_the_queue() {
    let item = Arc::new(());
    let (sender, receiver) = bounded(2);
    sender.send(Arc::clone(&item)).expect("open");
    drop((sender, receiver));
    assert_eq!(Arc::strong_count(&item), 1);
}
