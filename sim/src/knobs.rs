//! The sizes and odds of a world by name, so that a run can be asked for with others than its seed draws, and a scenario
//! can be written that does not depend on what is drawn.

use std::time::Duration;

use crate::world::World;

/// One number of a world.
pub(crate) struct Knob {
    /// Its name, which is that of the field.
    pub(crate) name: &'static str,
    /// The least it can be, where less of it makes a simpler world.
    pub(crate) least: Option<u64>,
    pub(crate) get: fn(&World) -> u64,
    pub(crate) set: fn(&mut World, u64),
    /// The value as Rust writes it.
    pub(crate) source: fn(u64) -> String,
}

macro_rules! number {
    ($field:ident, $least:expr) => {
        Knob {
            name: stringify!($field),
            least: $least,
            get: |world| u64::try_from(world.$field).unwrap_or(u64::MAX),
            set: |world, value| world.$field = value.try_into().unwrap_or_default(),
            source: grouped,
        }
    };
}

/// All of them, those first whose removal says most.
pub(crate) const ALL: [Knob; 36] = [
    Knob {
        name: "safety_act",
        least: Some(500),
        get: |world| u64::try_from(world.safety_act.as_millis()).unwrap_or(u64::MAX),
        set: |world, value| world.safety_act = Duration::from_millis(value),
        source: |value| format!("Duration::from_millis({})", grouped(value)),
    },
    number!(changers, Some(0)),
    number!(watchers, Some(0)),
    number!(contenders, Some(0)),
    number!(followers, Some(0)),
    number!(resumers, Some(0)),
    number!(holders, Some(0)),
    number!(movers, Some(0)),
    number!(clients, Some(0)),
    number!(crash_permille, Some(0)),
    number!(start_crash_permille, Some(0)),
    number!(loss_permille, Some(0)),
    Knob {
        name: "silent_loss",
        least: Some(0),
        get: |world| u64::from(world.silent_loss),
        set: |world, value| world.silent_loss = value > 0,
        source: |value| (value > 0).to_string(),
    },
    number!(duplicate_permille, Some(0)),
    number!(standstill_permille, Some(0)),
    number!(recall_permille, Some(0)),
    number!(survey_permille, Some(0)),
    number!(moments_permille, Some(0)),
    number!(clock_rate_ppm_max, Some(0)),
    Knob {
        name: "quota_bytes",
        least: Some(0),
        get: |world| world.quota_bytes.unwrap_or(0),
        set: |world, value| world.quota_bytes = Some(value).filter(|value| *value > 0),
        source: |value| match value {
            0 => "None".to_owned(),
            value => format!("Some({})", grouped(value)),
        },
    },
    number!(members, Some(1)),
    number!(keys, Some(1)),
    number!(sync_ms_max, Some(1)),
    number!(message_ms_max, Some(1)),
    number!(down_ms_max, Some(1)),
    number!(pause_ms_max, None),
    number!(segment_bytes, None),
    number!(checkpoint_log_bytes, None),
    number!(snapshot_entries, None),
    number!(catch_up_entries, None),
    number!(storm_leases, Some(0)),
    number!(smallness, Some(0)),
    number!(election_ms, None),
    number!(slow_permille, Some(0)),
    number!(compaction_back_max, None),
    number!(fragment_bytes, None),
];

/// The number of this name.
pub(crate) fn named(name: &str) -> Option<&'static Knob> {
    ALL.iter().find(|knob| knob.name == name)
}

/// The world with the numbers that are asked for.
pub(crate) fn turned(mut world: World, asked: &[(&'static str, u64)]) -> World {
    for (name, value) in asked {
        let knob = named(name).expect("only numbers with a name are asked for");
        (knob.set)(&mut world, *value);
    }
    world
}

/// What the words `name=7,other=0` ask for; none if they make no sense.
pub(crate) fn parse(words: &str) -> Option<Vec<(&'static str, u64)>> {
    let asked = words.split(',').map(|word| {
        let (name, value) = word.split_once('=')?;
        let knob = named(name)?;
        let value = value.parse().ok()?;
        (value >= knob.least.unwrap_or(1)).then_some((knob.name, value))
    });
    asked.collect()
}

/// A number with its thousands set apart, as clippy wants long ones.
pub(crate) fn grouped(value: u64) -> String {
    let digits = value.to_string();
    if digits.len() < 5 {
        return digits;
    }
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push('_');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Options;

    #[test]
    fn every_number_is_found_by_its_name_and_can_be_set() {
        let mut world = World::draw(3, &Options::default());
        for knob in &ALL {
            assert!(named(knob.name).is_some());
            let value = knob.least.unwrap_or(0) + 1;
            (knob.set)(&mut world, value);
            assert_eq!((knob.get)(&world), value, "{}", knob.name);
        }
        let asked = parse("crash_permille=0,members=5");
        assert_eq!(asked, Some(vec![("crash_permille", 0), ("members", 5)]));
        for wrong in ["", "crash_permille", "weather=1", "members=0", "keys=x"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn long_numbers_are_written_in_groups() {
        assert_eq!(grouped(9999), "9999");
        assert_eq!(grouped(65_536), "65_536");
        assert_eq!(grouped(1_000_000), "1_000_000");
    }
}
