//! What a process counts of its calls, sites and refusals.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use hotcall_tracer::Refusal;

use super::{CTYPES_CALLS, CallSite, DEMOTIONS, Runtime};
use crate::profile::{self, Maker};

impl Runtime {
    /// Counts a site that has lost the policy that it began with.
    pub(crate) fn count_demotion(&self) {
        DEMOTIONS.fetch_add(1, Relaxed);
    }

    /// Counts a refusal by its name, if calls are counted.
    pub(crate) fn count_refusal(&self, refusal: Refusal) {
        if self.is_watched() {
            profile::refused(refusal);
        }
        if self.options.count {
            *self.sites().refusals.entry(refusal.name).or_default() += 1;
        }
    }

    /// Counts a call that goes to ctypes, if calls are counted.
    pub(crate) fn count_ctypes(&self) {
        if self.is_watched() {
            profile::made_by(Maker::Ctypes);
        }
        if self.options.count {
            CTYPES_CALLS.fetch_add(1, Relaxed);
        }
    }

    /// The counted refusals by name.
    pub(crate) fn refusals(&self) -> BTreeMap<&'static str, u64> {
        self.sites().refusals.clone()
    }

    /// How many functions have a site, how many stubs are in their chains, how
    /// many chains are full, and how often one was dropped.
    pub(crate) fn totals(&self) -> [usize; 4] {
        let sites = self.sites();
        let chain = |site: &CallSite| {
            let shapes = site.site.shapes().len();
            let is_full = usize::from(shapes >= self.options.shapes);
            [1, shapes, is_full, site.site.renewals() as usize]
        };
        let add = |sums: [usize; 4], one: [usize; 4]| std::array::from_fn(|at| sums[at] + one[at]);
        sites.functions.values().map(|site| chain(site)).fold([0; 4], add)
    }
}
