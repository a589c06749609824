//! News from work and science: business, space, medicine, transport.

use super::{Theme, deed, fact};
use crate::sample::names::FIRM_LAST;

pub(super) static MERGER: Theme = Theme {
    name: "merger",
    group_last: &FIRM_LAST,
    leads: &[
        "Shares jumped on news of a merger.",
        "Two rivals have agreed to become one company.",
        "The biggest deal of the year was signed on Thursday.",
    ],
    roles: &[
        "chairman",
        "broker",
        "investor",
        "accountant",
        "analyst",
        "economist",
        "founder",
        "secretary",
        "auditor",
        "programmer",
    ],
    deeds: &[
        deed("sold a third of the shares", "the sold shares"),
        deed("resigned by e-mail", "the e-mail"),
        deed("warned of heavy debts", "the heavy debts"),
        deed("leaked the contract", "the leaked contract"),
        deed("promised a bonus", "the bonus"),
        deed("called the price absurd", "the absurd price"),
        deed("moved into the corner office", "the corner office"),
        deed("cancelled the company picnic", "the company picnic"),
        deed("found an error in the accounts", "the error in the accounts"),
        deed("voted from a hospital bed", "the vote from a hospital bed"),
    ],
    places: &[
        fact(
            "The head office will move to {}.",
            "For the move to {}, the office will close for a week.",
            "Rents are rising in {} because of the office.",
        ),
        fact(
            "A warehouse in {} will close.",
            "The warehouse in {} has been there for sixty years.",
            "When the warehouse is gone, {} will be quieter.",
        ),
        fact("Robots are made in {}.", "The robots made in {} can sort parcels.", "The robots have given work to many in {}."),
        fact("Lawyers met in secret in {}.", "The secret meeting in {} lasted two nights.", "A waiter in {} saw the lawyers."),
    ],
    groups: &[
        fact(
            "{} made a higher bid.",
            "The bid that {} made came an hour late.",
            "An hour earlier, {} would have won with such a bid.",
        ),
        fact(
            "{} will cut jobs.",
            "The jobs that {} will cut are mostly in sales.",
            "Jobs were safe with {}, people used to say.",
        ),
        fact(
            "{} owns the patent.",
            "The patent that {} owns runs out soon.",
            "Everybody else must ask {} as long as the patent lasts.",
        ),
        fact("{} opposes the deal in court.", "The deal that {} opposes may take years.", "In court, {} has often been lucky."),
    ],
    quotes: &[
        "the figures speak for themselves",
        "size is not everything",
        "we’re stronger together",
        "it was a matter of trust",
    ],
};

pub(super) static SPACE: Theme = Theme {
    name: "space",
    group_last: &FIRM_LAST,
    leads: &[
        "The probe landed on the moon at dawn.",
        "After a delay of four days the rocket lifted off.",
        "Signals from the far side of the moon have been received.",
    ],
    roles: &[
        "astronaut",
        "physicist",
        "engineer",
        "chemist",
        "navigator",
        "mathematician",
        "spokesman",
        "astronomer",
        "biologist",
        "inventor",
    ],
    deeds: &[
        deed("steered the lander by hand", "the lander"),
        deed("spotted a crack in the tank", "the crack in the tank"),
        deed("brought a toy bear", "the toy bear"),
        deed("stopped the countdown", "the countdown"),
        deed("grew beans in orbit", "the beans in orbit"),
        deed("broke the record for walks in space", "the record"),
        deed("lost a glove", "the lost glove"),
        deed("recorded a lullaby", "the lullaby"),
        deed("computed the path on paper", "the path on paper"),
        deed("named a crater after a cat", "the crater"),
    ],
    places: &[
        fact(
            "Rock samples will be studied in {}.",
            "The samples to be studied in {} weigh two pounds.",
            "A laboratory in {} is waiting for the rock.",
        ),
        fact(
            "The antenna near {} caught the signal.",
            "The antenna near {} is as large as a field.",
            "Sheep graze in {} where the antenna stands.",
        ),
        fact(
            "Debris fell into a lake near {}.",
            "The debris in the lake near {} was no danger.",
            "Boats searched for debris not far from {}.",
        ),
        fact(
            "Schools in {} chose the flag.",
            "The flag that schools in {} chose is green.",
            "A holiday was given in {} on account of the flag.",
        ),
    ],
    groups: &[
        fact(
            "{} built the solar panels.",
            "The solar panels that {} built unfolded at once.",
            "The panels were a triumph for {}.",
        ),
        fact(
            "{} delivered a faulty valve.",
            "The faulty valve that {} delivered has been replaced.",
            "Since the matter of the valve, {} has lost customers.",
        ),
        fact(
            "{} plans a hotel on the moon.",
            "The hotel that {} plans has ten rooms.",
            "Few believe that {} will ever open the hotel.",
        ),
        fact(
            "{} sells pieces of the parachute.",
            "The pieces of the parachute that {} sells are cheap.",
            "Collectors of parachute silk have to queue at {}.",
        ),
    ],
    quotes: &["the view was worth it", "we held our breath", "it’s a small step", "the data look good"],
};

pub(super) static HOSPITAL: Theme = Theme {
    name: "hospital",
    group_last: &FIRM_LAST,
    leads: &[
        "The new hospital took in its first patients on Monday.",
        "Doctors report progress against a rare fever.",
        "A clinic that was to be closed has been saved.",
    ],
    roles: &["surgeon", "dentist", "therapist", "patient", "professor", "senator", "minister", "lecturer", "boxer", "tailor"],
    deeds: &[
        deed("tested the vaccine in a tent", "the vaccine"),
        deed("donated a kidney", "the kidney"),
        deed("walked again after a coma", "the coma"),
        deed("painted the waiting room", "the waiting room"),
        deed("warned of dirty needles", "the dirty needles"),
        deed("slept in the ambulance", "the ambulance"),
        deed("delivered triplets in the lift", "the triplets in the lift"),
        deed("questioned the cost of the pills", "the cost of the pills"),
        deed("baked bread for the night shift", "the bread for the night shift"),
        deed("opened a school for midwives", "the school for midwives"),
    ],
    places: &[
        fact(
            "The fever was first seen in {}.",
            "When the fever was first seen in {}, nobody had a name for it.",
            "There has been no case of fever in {} for a month.",
        ),
        fact(
            "Blood was flown in from {}.",
            "The blood flown in from {} came just in time.",
            "The plane with the blood left {} at midnight.",
        ),
        fact(
            "A sister clinic will open in {}.",
            "The sister clinic in {} will have eighty beds.",
            "Eighty beds will be welcome in {}.",
        ),
        fact(
            "Volunteers were trained in {}.",
            "The volunteers trained in {} had a week to learn everything.",
            "It was a hard week for volunteers in {}.",
        ),
    ],
    groups: &[
        fact(
            "{} gave an X-ray machine.",
            "The machine that {} gave is the best of its kind.",
            "A machine like that of {} costs a million.",
        ),
        fact(
            "{} raised the price of insulin.",
            "The price of insulin that {} raised had been stable.",
            "Insulin brings {} more than anything else.",
        ),
        fact(
            "{} cooks the meals.",
            "The meals that {} cooks are served cold.",
            "Those who know the meals of {} bring sandwiches.",
        ),
        fact(
            "{} lost medical records.",
            "The medical records that {} lost were on a laptop.",
            "The records were lost by accident, {} says.",
        ),
    ],
    quotes: &["every life counts", "I feel like a new person", "we need more beds", "there’s hope at last"],
};

pub(super) static STRIKE: Theme = Theme {
    name: "strike",
    group_last: &FIRM_LAST,
    leads: &[
        "Trains stood still for the third day in a row.",
        "The strike at the harbour may soon be over.",
        "Both sides went back to the table after a bitter week.",
    ],
    roles: &["mechanic", "miner", "sailor", "deputy", "commissioner", "waiter", "painter", "cyclist", "editor", "counselor"],
    deeds: &[
        deed("blocked the tunnel with a truck", "the tunnel"),
        deed("demanded longer holidays", "the longer holidays"),
        deed("offered four per cent", "the four per cent"),
        deed("tore up the timetable", "the timetable"),
        deed("carried a banner for ten miles", "the banner"),
        deed("missed a wedding", "the missed wedding"),
        deed("fed the pickets with sausages", "the sausages"),
        deed("burned a straw hat", "the straw hat"),
        deed("repaired the crane alone", "the crane"),
        deed("wrote a song about foremen", "the song about foremen"),
    ],
    places: &[
        fact(
            "Ferries to {} did not sail.",
            "The ferries to {} will sail again on Saturday.",
            "Hundreds spent the night on benches because no ferries went to {}.",
        ),
        fact(
            "Fruit for {} rotted on the docks.",
            "The fruit for {} had to be thrown away.",
            "In {}, fruit is twice as dear as last week.",
        ),
        fact(
            "Workers in {} joined the march.",
            "The march in {} was peaceful.",
            "The streets of {} were full of people on the march.",
        ),
        fact(
            "The talks will go on in {}.",
            "Coffee is ready for the talks in {}.",
            "If talks fail in {}, there will be no others.",
        ),
    ],
    groups: &[
        fact(
            "{} hired temporary staff.",
            "The temporary staff that {} hired were sent home.",
            "Hiring staff for a day has cost {} dearly.",
        ),
        fact(
            "{} broke the agreement.",
            "The agreement that {} broke was two years old.",
            "Few will want another agreement with {}.",
        ),
        fact(
            "{} lowered its fares.",
            "The fares that {} lowered will go up again.",
            "With such fares {} hopes to win people back.",
        ),
        fact("{} sued the union.", "The union that {} sued has no money.", "A judge asked {} to leave the union alone."),
    ],
    quotes: &["enough is enough", "we want respect", "talking is better than shouting", "nobody wins a strike"],
};
