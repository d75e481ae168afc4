//! The miners' side of a simulation: what they ask, train and hand in.

use super::super::landscape::SimModel;
use super::super::spec::{Cheat, account};
use super::{Happening, Simulation, simulated_answer};
use crate::calibration;
use crate::manager::{Ask, Effect, Event};
use crate::miner::{Miner, MinerEffect, MinerEvent, TrainOrder, Trained};
use crate::protocol::{Reply, Request};
use crate::training::States;
use crate::types::Share;

/// Time to decode an interval's data.
const PREPARE_MS: u64 = 200;
/// How often a miner that trains says how far it is.
const PROGRESS_MS: u64 = 1000;

impl Simulation {
    pub(super) fn join(&mut self, miner: usize) {
        let now_ms = self.agenda.now_ms();
        if self.ends_ms.is_some_and(|at| at <= now_ms) {
            return;
        }
        let in_phase = self.phase_ms.is_some();
        let sim = &mut self.miners[miner];
        sim.life += 1;
        sim.joined_ms = now_ms;
        sim.machine = Some(Miner::new(account(sim.spec.owner), "simulation"));
        sim.wake_ms = None;
        sim.present_since_ms = in_phase.then_some(now_ms);
        let life = sim.life;
        self.miner_event(miner, life, MinerEvent::Start);
    }

    pub(super) fn ask(&mut self, miner: usize, life: u32, request: Request) {
        if self.miners[miner].life != life {
            return;
        }
        let mut submitted = None;
        let ask = match request {
            Request::Hello { version, account, .. } => Ask::Hello { version, account },
            Request::Calibrated { seed, digest } => Ask::Calibrated { seed, digest },
            Request::Lease => Ask::Lease,
            Request::Progress { lease, done_macs } => Ask::Progress { lease, done_macs },
            Request::Submit { share, .. } => {
                let share = self.corrupt(miner, share);
                submitted = Some(share.clone());
                Ask::Submit { share, is_model: true }
            }
            Request::Leave => Ask::Leave,
            Request::Chunk { artefact, .. } => {
                // Simulated artefacts are small: what comes in chunks is a state for an audit.
                let arrived = Event::StateArrived { miner: self.miners[miner].id, root: artefact.root };
                self.manager_event(arrived);
                Ask::Chunk
            }
        };
        let id = self.miners[miner].id;
        let has_old_lease = self.has_old_lease(miner);
        let before = self.manager.unit_counts().cut_short;
        let effects = self.tell_manager(Event::Asked { miner: id, ask });
        if has_old_lease {
            self.report.unnoticed_units += self.manager.unit_counts().cut_short - before;
        }
        let taken =
            effects.iter().any(|e| matches!(e, Effect::Reply { reply, .. } if matches!(**reply, Reply::Ack { .. })));
        let result = submitted.filter(|_| taken);
        if let Some(share) = &result {
            let macs = self.manager.search().and_then(|s| s.interval.training_macs(&share.architecture).ok());
            self.report.delivered_macs[miner] += u128::from(macs.unwrap_or(0)) * u128::from(share.images);
            self.miners[miner].acknowledged += 1;
        }
        self.manager_effects(effects);
        if result.is_some() && self.dies_at_result {
            self.kill_manager();
        }
    }

    /// What a miner that cheats makes of its result.
    fn corrupt(&self, miner: usize, mut share: Share) -> Share {
        match self.miners[miner].spec.cheat {
            Cheat::Honest | Cheat::Squats | Cheat::Underworks => {}
            Cheat::InflatesCounts(by) => share.correct = (share.correct + by).min(self.spec.plan.public_images),
            Cheat::Copies => {
                if let Some(best) = self.manager.elites().first() {
                    share.artefact = best.artefact;
                    share.correct = best.public_correct;
                }
            }
        }
        share
    }

    pub(super) fn miner_event(&mut self, miner: usize, life: u32, event: MinerEvent) {
        let now_ms = self.agenda.now_ms();
        let sim = &mut self.miners[miner];
        let Some(machine) = sim.machine.as_mut().filter(|_| sim.life == life) else { return };
        for effect in machine.handle(now_ms, event) {
            self.miner_effect(miner, life, effect);
        }
        let sim = &mut self.miners[miner];
        if let Some(at_ms) = sim.machine.as_ref().and_then(Miner::next_wake_ms)
            && sim.wake_ms.is_none_or(|planned| at_ms < planned)
        {
            sim.wake_ms = Some(at_ms);
            self.agenda.at(at_ms, Happening::MinerWake(miner, life));
        }
    }

    fn miner_effect(&mut self, miner: usize, life: u32, effect: MinerEffect) {
        let (speed, latency_ms) = (self.miners[miner].spec.speed_macs_s.max(1), self.miners[miner].spec.latency_ms);
        match effect {
            MinerEffect::Send(request) => self.agenda.later(latency_ms, Happening::Ask(miner, life, request)),
            MinerEffect::Calibrate(job) => {
                // The integer engine is as many times faster than training as the manager reckons.
                let engine = u128::from(speed) * 1000 / u128::from(self.spec.params.training_permille.max(1));
                let ms = u128::from(calibration::job_macs(&job)) * 1000 / engine.max(1);
                let digest = simulated_answer(&job);
                let event = MinerEvent::Calibrated { job, digest };
                self.agenda.later(u64::try_from(ms).unwrap_or(u64::MAX >> 1), Happening::Miner(miner, life, event));
            }
            MinerEffect::Prepare { interval, .. } => {
                let event = MinerEvent::Prepared { parent: interval.parent };
                self.agenda.later(PREPARE_MS, Happening::Miner(miner, life, event));
            }
            MinerEffect::Train(order) => {
                let macs = u128::from(order.image_macs) * u128::from(order.images);
                let full_ms = u64::try_from(macs * 1000 / u128::from(speed)).unwrap_or(u64::MAX >> 1);
                self.miners[miner].training = Some((order.clone(), self.agenda.now_ms()));
                self.agenda.later(PROGRESS_MS, Happening::Progress(miner, life, order.id));
                self.agenda.later(full_ms.min(order.due_ms), Happening::Trained(miner, life, order));
            }
            MinerEffect::Cancel => self.stop_training(miner),
            MinerEffect::Refused(_) | MinerEffect::Stopped => {}
        }
    }

    pub(super) fn progress(&mut self, miner: usize, life: u32, order: u64) {
        let is_current = self.miners[miner].training.as_ref().is_some_and(|(o, _)| o.id == order);
        if is_current && self.miners[miner].life == life {
            let images = self.reached(miner).unwrap_or(0);
            self.miner_event(miner, life, MinerEvent::Progressed { order, images });
            self.agenda.later(PROGRESS_MS, Happening::Progress(miner, life, order));
        }
    }

    /// Images that the training under way has reached.
    fn reached(&self, miner: usize) -> Option<u64> {
        let (order, since_ms) = self.miners[miner].training.as_ref()?;
        let speed = u128::from(self.miners[miner].spec.speed_macs_s);
        let elapsed_ms = u128::from(self.agenda.now_ms() - since_ms);
        let images = speed * elapsed_ms / 1000 / u128::from(order.image_macs.max(1));
        Some(u64::try_from(images).unwrap_or(u64::MAX).min(order.images))
    }

    pub(super) fn stop_training(&mut self, miner: usize) {
        let images = self.reached(miner).unwrap_or(0);
        if let Some((order, since_ms)) = self.miners[miner].training.take() {
            let works = match self.miners[miner].spec.cheat {
                Cheat::Squats => 0,
                Cheat::Underworks => images / 8,
                _ => images,
            };
            self.report.spent_macs[miner] += u128::from(works) * u128::from(order.image_macs);
            self.report.trained_ms[miner] += self.agenda.now_ms() - since_ms;
        }
    }

    pub(super) fn trained(&mut self, miner: usize, life: u32, order: TrainOrder) {
        let is_current = self.miners[miner].training.as_ref().is_some_and(|(o, _)| o.id == order.id);
        if !is_current || self.miners[miner].life != life {
            return;
        }
        // At its full time rounding must not cost an image.
        let images = self.reached(miner).unwrap_or(0).max(1);
        self.stop_training(miner);
        let cheat = self.miners[miner].spec.cheat;
        if cheat == Cheat::Squats {
            self.miner_event(miner, life, MinerEvent::Finished { order: order.id, result: None });
            return;
        }
        self.report.evaluations += u64::from(order.base.is_none());
        let base = order.base.and_then(|b| self.models.get(&b.root));
        let full_ppm = base.map_or_else(|| self.spec.landscape.accuracy_ppm(&order.architecture), |b| b.full_ppm);
        let works = if cheat == Cheat::Underworks { images.div_ceil(8) } else { images };
        let seed = order.seed ^ (miner as u64) << 32;
        let model = SimModel::train(&order.architecture, full_ppm, base, seed, works);
        let correct = model.count(self.spec.full_images, "public", self.spec.plan.public_images);
        let artefact = model.artefact;
        self.models.insert(artefact.root, model);
        if cheat == Cheat::Underworks {
            self.underworked.insert(artefact.root);
        }
        // Roots stand for states too: no two trainings end at the same.
        let states = States { start: order.base_end.unwrap_or_default(), end: artefact.root };
        let result = Some(Trained { artefact, images, correct, states });
        self.miner_event(miner, life, MinerEvent::Finished { order: order.id, result });
    }
}
