//! What the driver keeps of a host across its lives.

use holdfast_env::{Env, MemoryDisk};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use crate::door::{Lag, Skew};
use crate::mutant::Mutant;
use crate::store::{HostStores, Vault};

/// Bytes left on a disk that is nearly full.
const LEFT_ON_FULL_DISK: u64 = 8 * 1024 * 1024;

struct Shared {
    name: String,
    seed: u64,
    life: Cell<u64>,
    skew: Skew,
    lag: Lag,
    disk: RefCell<MemoryDisk>,
    stores: RefCell<Arc<HostStores>>,
    vault: Vault,
    mutant: Option<Mutant>,
}

/// A host, whatever runs on it. Clones share it.
#[derive(Clone)]
pub(super) struct Host(Rc<Shared>);

impl Host {
    /// A host with an empty disk.
    pub(super) fn new(name: &str, seed: u64, vault: &Vault, mutant: Option<Mutant>) -> Self {
        Self(Rc::new(Shared {
            name: name.to_owned(),
            seed,
            life: Cell::new(0),
            skew: Skew::default(),
            lag: Lag::default(),
            disk: RefCell::new(MemoryDisk::new()),
            stores: RefCell::new(vault.provider(name)),
            vault: vault.clone(),
            mutant,
        }))
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.0.name
    }

    /// The promise that its world breaks.
    pub(super) fn mutant(&self) -> Option<Mutant> {
        self.0.mutant
    }

    /// Which life it is in.
    pub(super) fn life(&self) -> u64 {
        self.0.life.get()
    }

    /// The seed of its present life's randomness.
    pub(super) fn seed(&self) -> u64 {
        self.0
            .seed
            .wrapping_add(self.life().wrapping_mul(0x9e37_79b9))
    }

    /// How wrong its wall clock is.
    pub(super) fn skew(&self) -> &Skew {
        &self.0.skew
    }

    /// How slow its disk is.
    pub(super) fn lag(&self) -> &Lag {
        &self.0.lag
    }

    /// Its disk, as its present life sees it.
    pub(super) fn disk(&self) -> MemoryDisk {
        self.0.disk.borrow().clone()
    }

    /// The object store, as its present life sees it.
    pub(super) fn stores(&self) -> Arc<HostStores> {
        Arc::clone(&self.0.stores.borrow())
    }

    /// The outside, as its present life sees it.
    pub(super) fn env(&self) -> Env {
        super::outside(self)
    }

    /// Leaves its disk nearly no room, or all the room there is. What is left is less than processes reserve, and more than they need to
    /// refuse work in good order.
    pub(super) fn fill(&self, full: bool) {
        let disk = self.disk();
        disk.set_capacity(if full {
            disk.used() + LEFT_ON_FULL_DISK
        } else {
            u64::MAX
        });
    }

    /// Ends its present life: nothing of it reaches the disk or the store any more, and what the disk had not synced is lost in part.
    pub(super) fn crash(&self, seed: u64) {
        self.0.life.set(self.life() + 1);
        let disk = self.disk().crash(seed);
        *self.0.disk.borrow_mut() = disk;
        self.stores().crash();
        *self.0.stores.borrow_mut() = self.0.vault.provider(&self.0.name);
    }
}
