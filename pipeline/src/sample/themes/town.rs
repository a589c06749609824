//! News from the town: its council, its court, its weather, its school.

use super::{Theme, deed, fact};
use crate::sample::names::FIRM_LAST;

pub(super) static COUNCIL: Theme = Theme {
    name: "council",
    group_last: &FIRM_LAST,
    leads: &[
        "The town council met until midnight on Tuesday.",
        "A crowd filled the town hall for a long debate.",
        "The yearly budget was on the table at the town hall.",
    ],
    roles: &["mayor", "treasurer", "clerk", "baker", "teacher", "architect", "librarian", "planner", "banker", "doctor"],
    deeds: &[
        deed("voted against the bridge", "the bridge"),
        deed("asked for more street lamps", "the street lamps"),
        deed("wanted to close the market", "the market"),
        deed("promised to repair the fountain", "the fountain"),
        deed("complained about parking fees", "the parking fees"),
        deed("read out a letter", "the letter"),
        deed("left before the coffee break", "the coffee break"),
        deed("spoke for an hour about rubbish", "the rubbish"),
        deed("offered to buy the empty mill", "the empty mill"),
        deed("proposed a tax on dogs", "the tax on dogs"),
    ],
    places: &[
        fact(
            "The road to {} will open in spring.",
            "Work on the road to {} has already begun.",
            "Drivers will save half an hour on their way to {} when the road is ready.",
        ),
        fact(
            "Night buses from {} will stop running.",
            "Students who took the night buses from {} are angry.",
            "Without the buses, people in {} will have to walk.",
        ),
        fact(
            "A friendship treaty with {} was signed.",
            "The friendship treaty with {} is the third of its kind.",
            "Guests came all the way from {} to see the treaty.",
        ),
        fact(
            "Drinking water will come from {} again.",
            "The drinking water from {} is said to be clean.",
            "Tests in {} have shown nothing wrong with the water.",
        ),
    ],
    groups: &[
        fact(
            "{} won the contract for the roof.",
            "The contract that {} won runs for two years.",
            "For {}, the roof is the largest job so far.",
        ),
        fact(
            "{} wants to rent the swimming pool.",
            "The swimming pool that {} wants to rent is half a century old.",
            "Families fear that the pool will cost more under {}.",
        ),
        fact(
            "{} sent a bill for the fireworks.",
            "The bill for the fireworks that {} sent was never opened.",
            "No other fireworks were as dear as those of {}.",
        ),
        fact(
            "{} will plant trees by the river.",
            "The trees that {} will plant are two years old.",
            "Thanks to {}, there will be shade by the river.",
        ),
    ],
    quotes: &["we will find the money", "nobody asked the people", "it was a fair debate", "this town deserves better"],
};

pub(super) static COURT: Theme = Theme {
    name: "court",
    group_last: &FIRM_LAST,
    leads: &[
        "The trial over the stolen paintings went into its second week.",
        "A verdict is expected in a case that has lasted all winter.",
        "The court heard new evidence behind closed doors.",
    ],
    roles: &["judge", "lawyer", "detective", "witness", "defendant", "guard", "translator", "reporter", "sheriff", "neighbour"],
    deeds: &[
        deed("denied every charge", "the charge"),
        deed("found the missing key", "the missing key"),
        deed("recognised the blue van", "the blue van"),
        deed("slept through the hearing", "the hearing"),
        deed("showed the jury a map", "the map"),
        deed("lost an important file", "the important file"),
        deed("wept after the verdict", "the tears after the verdict"),
        deed("heard footsteps on the stairs", "the footsteps on the stairs"),
        deed("forgot the date of the robbery", "the date of the robbery"),
        deed("refused to answer questions", "the questions"),
    ],
    places: &[
        fact(
            "The paintings were hidden in {}.",
            "A cellar where the paintings were hidden in {} has been searched.",
            "Nobody expected the paintings to turn up in {}.",
        ),
        fact(
            "Phone calls were traced to {}.",
            "The phone calls traced to {} lasted only seconds.",
            "A phone box in {} is now being watched.",
        ),
        fact(
            "The gang was arrested near {}.",
            "Two cars were taken when the gang was arrested near {}.",
            "The chase ended on a bridge in {}, and the gang gave up.",
        ),
        fact(
            "A second hearing was moved to {}.",
            "The second hearing, moved to {}, will be open to everyone.",
            "Hotels in {} are full because of the second hearing.",
        ),
    ],
    groups: &[
        fact(
            "{} insured the collection.",
            "The collection that {} insured was worth millions.",
            "After the theft of the collection, {} had to pay.",
        ),
        fact(
            "{} supplied the alarm.",
            "The alarm that {} supplied had been switched off.",
            "Why the alarm stayed silent is a question for {}.",
        ),
        fact(
            "{} leaked the secret tape.",
            "The secret tape that {} leaked cannot be used.",
            "Listeners of {} had known the tape for weeks.",
        ),
        fact(
            "{} hired a private investigator.",
            "The private investigator whom {} hired will not speak.",
            "It is not known how much {} spends on the investigator.",
        ),
    ],
    quotes: &["justice takes time", "the truth will come out", "I have nothing to hide", "it’s not over yet"],
};

pub(super) static STORM: Theme = Theme {
    name: "storm",
    group_last: &FIRM_LAST,
    leads: &[
        "The worst storm in ten years reached the coast overnight.",
        "Heavy rain and wind kept thousands awake.",
        "Rescue crews are still at work after the storm.",
    ],
    roles: &["captain", "farmer", "fisherman", "nurse", "pilot", "ranger", "soldier", "priest", "tourist", "builder"],
    deeds: &[
        deed("rowed across the flooded square", "the flooded square"),
        deed("saved two horses", "the two horses"),
        deed("sheltered a dozen children", "the children"),
        deed("repaired the broken radio", "the broken radio"),
        deed("lost a greenhouse", "the lost greenhouse"),
        deed("cooked soup for everybody", "the soup"),
        deed("filled sandbags till dawn", "the sandbags"),
        deed("climbed onto the roof", "the night on the roof"),
        deed("ignored the first warning", "the first warning"),
        deed("drove a tractor through the mud", "the tractor"),
    ],
    places: &[
        fact(
            "Trains to {} were cancelled.",
            "The first trains to {} left again at noon.",
            "People going to {} were told to forget about trains.",
        ),
        fact(
            "A lighthouse near {} went dark.",
            "The lighthouse near {} had never failed before.",
            "Ships off {} had to do without the lighthouse.",
        ),
        fact(
            "Power failed all over {}.",
            "Power that failed all over {} is slowly coming back.",
            "It took candles to get through an evening without power in {}.",
        ),
        fact(
            "Hail broke windows in {}.",
            "The hail that broke windows in {} was the size of eggs.",
            "New glass is hard to find in {} since the hail.",
        ),
    ],
    groups: &[
        fact(
            "{} lent its boats.",
            "The boats that {} lent came back without a scratch.",
            "More lives would have been lost but for the boats of {}.",
        ),
        fact(
            "{} handed out blankets.",
            "The blankets that {} handed out were made of wool.",
            "Thanks to {}, nobody had to go without blankets.",
        ),
        fact(
            "{} shut its factory.",
            "The factory that {} shut will stay closed for a week.",
            "Five hundred people at {} cannot get to the factory.",
        ),
        fact(
            "{} raised money with a song.",
            "The song with which {} raised money is on every station.",
            "The song made {} known all over the country.",
        ),
    ],
    quotes: &["we were lucky", "I have never seen such waves", "we’ll build it up again", "the noise was terrible"],
};

pub(super) static SCHOOL_FAIR: Theme = Theme {
    name: "school fair",
    group_last: &FIRM_LAST,
    leads: &[
        "The school fair drew more visitors than ever.",
        "Parents and pupils baked, sang and sold for a good cause.",
        "It rained, but the school fair went on.",
    ],
    roles: &["principal", "gardener", "cook", "pupil", "tutor", "magician", "clown", "carpenter", "barber", "volunteer"],
    deeds: &[
        deed("won the sack race", "the sack race"),
        deed("baked forty apple pies", "the apple pies"),
        deed("built a cardboard rocket", "the cardboard rocket"),
        deed("sold old bicycles", "the old bicycles"),
        deed("dropped the wedding cake", "the wedding cake"),
        deed("taught everyone a dance", "the dance"),
        deed("guessed the weight of the pig", "the weight of the pig"),
        deed("painted faces all afternoon", "the painted faces"),
        deed("forgot the lottery tickets", "the lottery tickets"),
        deed("played the trumpet badly", "the trumpet"),
    ],
    places: &[
        fact(
            "Exchange students came from {}.",
            "The exchange students from {} brought sweets.",
            "Back in {}, the exchange students will have much to tell.",
        ),
        fact(
            "The profit will help a village near {}.",
            "A well in the village near {} will be paid for with the profit.",
            "The village has written a letter of thanks from {}.",
        ),
        fact(
            "First prize was a journey to {}.",
            "The journey to {} will take place in June.",
            "The winner has dreamed of {} for years, and the journey is a dream come true.",
        ),
        fact(
            "A choir from {} opened the programme.",
            "The choir from {} had never sung abroad before.",
            "There was loud applause for the choir before it went home to {}.",
        ),
    ],
    groups: &[
        fact(
            "{} gave a computer.",
            "The computer that {} gave is already in use.",
            "The class has thanked {} for the computer.",
        ),
        fact(
            "{} put up the tent.",
            "The tent that {} put up held against the rain.",
            "Without {}, there would have been no tent.",
        ),
        fact(
            "{} brought a climbing wall.",
            "The climbing wall that {} brought was the main attraction.",
            "Every child wanted to try the wall of {}.",
        ),
        fact(
            "{} filmed a documentary.",
            "The documentary that {} filmed will be shown in autumn.",
            "Those who missed the day can wait for the documentary by {}.",
        ),
    ],
    quotes: &["the children did it all", "next year will be bigger", "I ate too much", "it was a lovely day"],
};
