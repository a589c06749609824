//! News from sport and culture: football, film, music, archaeology.

use super::{Theme, deed, fact};
use crate::sample::names::{FIRM_LAST, TEAM_LAST};

pub(super) static FOOTBALL: Theme = Theme {
    name: "football",
    group_last: &TEAM_LAST,
    leads: &[
        "The cup final went to extra time on Saturday.",
        "It was a match that nobody in the stadium will forget.",
        "Three goals in ten minutes turned the game around.",
    ],
    roles: &[
        "goalkeeper",
        "striker",
        "defender",
        "referee",
        "coach",
        "trainer",
        "physician",
        "substitute",
        "drummer",
        "commentator",
    ],
    deeds: &[
        deed("scored with a header", "the header"),
        deed("missed a penalty", "the missed penalty"),
        deed("left the pitch with a broken toe", "the broken toe"),
        deed("argued about the offside flag", "the offside flag"),
        deed("kissed the trophy", "the trophy"),
        deed("threw a bottle", "the bottle"),
        deed("celebrated a hundredth appearance", "the hundredth appearance"),
        deed("changed the tactics at half-time", "the tactics"),
        deed("lost a shoe", "the lost shoe"),
        deed("swapped shirts with a fan", "the swapped shirts"),
    ],
    places: &[
        fact(
            "The next round will be played in {}.",
            "Tickets for the round to be played in {} are sold out.",
            "Hotels in {} are getting ready for the next round.",
        ),
        fact(
            "Supporters from {} arrived by boat.",
            "Supporters from {} sang until the boat left.",
            "The boat took everybody safely back to {}.",
        ),
        fact(
            "The victory parade will end in {}.",
            "The victory parade in {} starts at ten.",
            "Shops in {} will close for the parade.",
        ),
        fact(
            "A scout from {} took notes.",
            "The scout from {} would not say whose name was in the notes.",
            "Back in {}, the scout has a report to write.",
        ),
    ],
    groups: &[
        fact("{} led by two goals early.", "The lead that {} had early was not enough.", "An early lead made {} careless."),
        fact(
            "{} protested against the result.",
            "The protest of {} against the result will be heard on Friday.",
            "The result will stand, whatever {} may think.",
        ),
        fact(
            "{} sacked its manager.",
            "The manager whom {} sacked has already packed.",
            "No other manager had been with {} for so long.",
        ),
        fact(
            "{} wore black ribbons.",
            "The black ribbons that {} wore were for a dead president.",
            "Ribbons were tied to every arm in the squad of {}.",
        ),
    ],
    quotes: &["we gave everything", "the better side won", "I’m lost for words", "now we go on holiday"],
};

pub(super) static FILM_FESTIVAL: Theme = Theme {
    name: "film festival",
    group_last: &FIRM_LAST,
    leads: &[
        "The film festival closed with a surprise on Sunday.",
        "Stars and rain fell on the red carpet.",
        "The prizes of the film festival have been given out.",
    ],
    roles: &[
        "director",
        "producer",
        "actor",
        "critic",
        "composer",
        "novelist",
        "photographer",
        "designer",
        "driver",
        "collector",
    ],
    deeds: &[
        deed("won the golden statue", "the golden statue"),
        deed("fell asleep in the front row", "the nap in the front row"),
        deed("wore a dress of paper", "the dress of paper"),
        deed("walked out of the premiere", "the premiere"),
        deed("announced a comedy about bees", "the comedy about bees"),
        deed("apologised for a rude joke", "the rude joke"),
        deed("bought a vineyard", "the vineyard"),
        deed("arrived on an elephant", "the elephant"),
        deed("praised the young jury", "the young jury"),
        deed("quarrelled over the soundtrack", "the soundtrack"),
    ],
    places: &[
        fact(
            "The opening scene was shot in {}.",
            "The opening scene shot in {} took three months.",
            "People in {} were paid to stand around in the opening scene.",
        ),
        fact(
            "A silent film from {} was restored.",
            "The silent film from {} is a hundred years old.",
            "The silent film was found in an attic in {}.",
        ),
        fact(
            "Next year the festival moves to {}.",
            "A cinema is being built, for the festival moves to {}.",
            "The move means a busy summer for {}.",
        ),
        fact(
            "A thriller set in {} was banned.",
            "The thriller set in {} may be shown after all.",
            "The crime in the thriller might have happened in {}.",
        ),
    ],
    groups: &[
        fact(
            "{} bought the world rights.",
            "The world rights that {} bought include the sequel.",
            "The sequel will be up to {}, now that the rights are sold.",
        ),
        fact(
            "{} withdrew its documentary.",
            "The documentary that {} withdrew will be cut again.",
            "There was no documentary, and no word, from {}.",
        ),
        fact("{} paid for the party.", "The party that {} paid for lasted till dawn.", "The guests at the party thanked {}."),
        fact(
            "{} streamed the ceremony.",
            "The ceremony that {} streamed was seen by millions.",
            "The picture froze twice in the ceremony, for which {} blames the weather.",
        ),
    ],
    quotes: &["I did not expect this", "film is a kind of dream", "thank you all", "the public is always right"],
};

pub(super) static CONCERT: Theme = Theme {
    name: "concert",
    group_last: &FIRM_LAST,
    leads: &[
        "The summer concert ended in cheers and tears.",
        "Ten thousand people came to hear music in the park.",
        "A string broke, a light fell, and still the concert was a success.",
    ],
    roles: &["singer", "violinist", "pianist", "conductor", "organist", "dancer", "poet", "technician", "soprano", "guitarist"],
    deeds: &[
        deed("forgot the second verse", "the second verse"),
        deed("played with a bandaged thumb", "the bandaged thumb"),
        deed("dedicated a waltz to a grandmother", "the waltz"),
        deed("tripped over a cable", "the cable"),
        deed("broke a window with a high note", "the high note"),
        deed("sang in a borrowed coat", "the borrowed coat"),
        deed("refused an encore", "the encore"),
        deed("invited a beggar on stage", "the beggar on stage"),
        deed("tuned the piano twice", "the piano"),
        deed("announced a farewell tour", "the farewell tour"),
    ],
    places: &[
        fact(
            "The tour began in {}.",
            "When the tour began in {}, half the seats were empty.",
            "Few people in {} cared when the tour was there.",
        ),
        fact(
            "An old organ from {} was heard again.",
            "The organ from {} has four thousand pipes.",
            "The organ had been silent since it was brought from {}.",
        ),
        fact(
            "Fans camped on the beach of {}.",
            "The beach of {} was clean again by noon.",
            "The tents on the beach were a strange sight for {}.",
        ),
        fact(
            "The live album was recorded in {}.",
            "The live album recorded in {} comes out in May.",
            "The applause on the album is that of {}.",
        ),
    ],
    groups: &[
        fact(
            "{} printed the tickets.",
            "Some tickets that {} printed were false.",
            "Whoever has a false ticket may write to {}.",
        ),
        fact(
            "{} built the loudspeakers.",
            "The loudspeakers that {} built were heard for miles.",
            "The loudspeakers have brought {} complaints.",
        ),
        fact(
            "{} cancelled its show.",
            "The show that {} cancelled will be held in winter.",
            "Because of the flu there was no show by {}.",
        ),
        fact(
            "{} signed a young band.",
            "The young band that {} signed is not yet twenty.",
            "The band could have had more elsewhere than from {}.",
        ),
    ],
    quotes: &["music heals", "I could sing all night", "that was my last time", "the audience was wonderful"],
};

pub(super) static DIG: Theme = Theme {
    name: "dig",
    group_last: &FIRM_LAST,
    leads: &[
        "A tomb sealed for two thousand years has been opened.",
        "What began as a hole in a field may rewrite history.",
        "The museum presented its finds on Wednesday.",
    ],
    roles: &["curator", "historian", "geologist", "student", "sculptor", "donor", "botanist", "inspector", "scholar", "diver"],
    deeds: &[
        deed("discovered a bronze mirror", "the bronze mirror"),
        deed("decoded the clay tablets", "the clay tablets"),
        deed("doubted the age of the wall", "the age of the wall"),
        deed("dropped a vase", "the vase"),
        deed("drew the mosaic by hand", "the mosaic"),
        deed("fell into a trench", "the trench"),
        deed("counted nine skeletons", "the nine skeletons"),
        deed("dated the seeds", "the seeds"),
        deed("hid a gold ring", "the gold ring"),
        deed("wrote a guide for children", "the guide for children"),
    ],
    places: &[
        fact(
            "The marble came from {}.",
            "Ships with marble came from {} every spring.",
            "The marble proves that there was trade with {}.",
        ),
        fact(
            "A similar temple stands in {}.",
            "The temple that stands in {} is much smaller.",
            "Visitors to {} may have seen a temple like it.",
        ),
        fact(
            "The coins will be shown in {}.",
            "Before the coins are shown in {}, they will be cleaned.",
            "The coins will be in {} until Christmas.",
        ),
        fact(
            "An ancient road led to {}.",
            "The ancient road that led to {} is under a motorway now.",
            "A cart needed two weeks on the road before it was in {}.",
        ),
    ],
    groups: &[
        fact(
            "{} paid for the laser scan.",
            "The laser scan that {} paid for shows a second room.",
            "Without {}, there would be no laser and no second room.",
        ),
        fact("{} claims the land.", "The land that {} claims was never sold.", "A judge will hear {} about the land in March."),
        fact(
            "{} offered a reward for the missing statue.",
            "The reward that {} offered was doubled.",
            "Whoever finds the statue should call {}.",
        ),
        fact(
            "{} published fake photographs.",
            "The fake photographs that {} published were soon removed.",
            "Fake pictures have cost {} many readers.",
        ),
    ],
    quotes: &[
        "we have only scratched the surface",
        "I held my breath",
        "every stone counts",
        "this is a once in a lifetime find",
    ],
};
