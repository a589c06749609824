//! A bounded queue between threads: any number of senders and receivers, first in, first out.
//!
//! Items go through [`crossbeam::queue::ArrayQueue`], an array of slots taken by atomic operations. A thread takes a lock only
//! to go to sleep, when the queue is full or empty, or to wake one that does; nobody spins. Either side can close the queue:
//!
//! - when the last [`Receiver`] is gone, or somebody calls [`Closer::close`], senders get their item back, at once or out of
//!   their sleep;
//! - when the last [`Sender`] is gone, receivers get the items that are left, then [`None`].
//!
//! ```
//! let (sender, receiver) = glm_queue::bounded(2);
//! let producer = std::thread::spawn(move || {
//!     for i in 0..5 {
//!         sender.send(i).expect("the receiver lives");
//!     }
//! });
//! let mut received = Vec::new();
//! while let Some(i) = receiver.recv() {
//!     received.push(i);
//! }
//! assert_eq!(received, [0, 1, 2, 3, 4]);
//! producer.join().expect("no panic");
//! ```

mod event;
mod sync;

use std::fmt;

use event::Event;
use sync::{Arc, AtomicBool, AtomicUsize, Ordering, Slots};

/// A queue that holds at most `capacity` items; a capacity of 0 counts as 1.
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        slots: Slots::new(capacity.max(1)),
        closed: AtomicBool::new(false),
        senders: AtomicUsize::new(1),
        receivers: AtomicUsize::new(1),
        filled: Event::new(),
        freed: Event::new(),
    });
    (Sender { shared: Arc::clone(&shared) }, Receiver { shared })
}

/// What both ends share.
struct Shared<T> {
    slots: Slots<T>,
    /// Set once and never taken back. Whoever sets it wakes every sleeper, and every sleeper looks at it before it sleeps.
    closed: AtomicBool,
    senders: AtomicUsize,
    receivers: AtomicUsize,
    /// Signalled for every item that was put in; receivers sleep on it.
    filled: Event,
    /// Signalled for every item that was taken out; senders sleep on it.
    freed: Event,
}

impl<T> Shared<T> {
    fn close(&self) {
        // Release and acquire: who sees the queue closed also sees the items that this thread had put in before.
        self.closed.store(true, Ordering::Release);
        self.filled.wake_all();
        self.freed.wake_all();
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

/// The queue was closed; holds the item that was not sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Closed<T>(pub T);

impl<T> fmt::Debug for Closed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Closed(..)")
    }
}

impl<T> fmt::Display for Closed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the queue is closed")
    }
}

impl<T> std::error::Error for Closed<T> {}

/// The end where items go in. When its last clone is dropped, the queue closes.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Sender<T> {
    /// Puts an item in; sleeps while the queue is full.
    ///
    /// # Errors
    /// [`Closed`] with the item, when the queue is closed before there was room.
    pub fn send(&self, item: T) -> Result<(), Closed<T>> {
        let shared = &*self.shared;
        let mut left = Some(item);
        let sent = shared.freed.wait_until(|| {
            let item = left.take()?;
            if shared.is_closed() {
                return Some(Err(Closed(item)));
            }
            match shared.slots.push(item) {
                Ok(()) => Some(Ok(())),
                Err(item) => {
                    left = Some(item);
                    None
                }
            }
        });
        if sent.is_ok() {
            shared.filled.wake_one();
        }
        sent
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        // Relaxed: the count only has to be right, and a clone is made from a sender that is counted.
        self.shared.senders.fetch_add(1, Ordering::Relaxed);
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        // Acquire and release: the last one closes behind everything that the others have sent.
        if self.shared.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.close();
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender(..)")
    }
}

/// The end where items come out. When its last clone is dropped, the queue closes.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Receiver<T> {
    /// Takes the oldest item out; sleeps while there is none. `None`: the queue is closed and empty.
    ///
    /// Items that were sent before the queue closed are still delivered. One that is being sent just while somebody else
    /// closes may be dropped with the queue instead.
    pub fn recv(&self) -> Option<T> {
        let shared = &*self.shared;
        let received = shared.filled.wait_until(|| {
            if let Some(item) = shared.slots.pop() {
                return Some(Some(item));
            }
            // The last item may have come between that look and the closing: so look again, behind it.
            shared.is_closed().then(|| shared.slots.pop())
        });
        if received.is_some() {
            shared.freed.wake_one();
        }
        received
    }

    /// A handle that closes the queue from elsewhere.
    pub fn closer(&self) -> Closer<T> {
        Closer { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.shared.receivers.fetch_add(1, Ordering::Relaxed);
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        if self.shared.receivers.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.close();
        }
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receiver(..)")
    }
}

/// Closes a queue without being one of its ends.
pub struct Closer<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Closer<T> {
    /// Closes the queue: nobody sleeps on it any more, now or later.
    pub fn close(&self) {
        self.shared.close();
    }
}

impl<T> Clone for Closer<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T> fmt::Debug for Closer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Closer(..)")
    }
}
