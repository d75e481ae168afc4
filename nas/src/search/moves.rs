//! Moves through a box: one setting of one layer, or one setting of all layers at once.

use podl_consensus::workload::{Architecture, Setting};

use super::search_box::{SETTINGS, SearchBox};
use crate::data::Random;

impl SearchBox {
    /// A neighbour: `changes` draws of one setting of one layer, most of them to the next value up or down. It stays
    /// in the box; where the network was outside, it is first brought in.
    pub fn mutate(&self, architecture: &Architecture, changes: u32, random: &mut Random) -> Architecture {
        let mut mutant = self.project(architecture);
        for _ in 0..changes {
            let index = random.below(u32::try_from(self.len()).unwrap_or(u32::MAX)) as usize;
            let setting = any_setting(random);
            let own = self.values(index, setting);
            let at = position(own, setting.get(&mutant.layers[index]));
            let value = step(own, at, random);
            self.set(&mut mutant, index, setting, value);
        }
        mutant
    }

    /// A wide step: one setting of every layer goes to the next value up or, in all of them alike, down. Layers that
    /// are at the end of their list, or would lose their last bit, stay.
    pub fn shift(&self, architecture: &Architecture, random: &mut Random) -> Architecture {
        let mut shifted = self.project(architecture);
        let (setting, up) = (any_setting(random), random.below(2) == 1);
        for index in 0..self.len() {
            let own = self.values(index, setting);
            let at = position(own, setting.get(&shifted.layers[index]));
            let next = if up { (at + 1).min(own.len() - 1) } else { at.saturating_sub(1) };
            self.set(&mut shifted, index, setting, own[next]);
        }
        shifted
    }
}

impl SearchBox {
    /// One step of a search: so many times in ten a wide one, else mostly one change, sometimes two or three at once.
    pub fn step(&self, architecture: &Architecture, wide_of_ten: u32, random: &mut Random) -> Architecture {
        if random.below(10) < wide_of_ten {
            return self.shift(architecture, random);
        }
        let changes = 1 + u32::from(random.below(2) == 0) + u32::from(random.below(4) == 0);
        self.mutate(architecture, changes, random)
    }
}

fn any_setting(random: &mut Random) -> Setting {
    Setting::ALL[random.below(SETTINGS as u32) as usize]
}

fn position(values: &[u16], value: u16) -> usize {
    values.iter().position(|&v| v == value).unwrap_or(0)
}

/// Another value of a list: three times in four a neighbour of the present one, else any.
fn step(values: &[u16], at: usize, random: &mut Random) -> u16 {
    if random.below(4) == 0 {
        return values[random.below(u32::try_from(values.len()).unwrap_or(u32::MAX)) as usize];
    }
    let up = random.below(2) == 1;
    let next = if (up && at + 1 < values.len()) || at == 0 { at + 1 } else { at - 1 };
    values[next.min(values.len() - 1)]
}
