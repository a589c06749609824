//! Encoding of pairs by hand-made examples and properties.

use proptest::prelude::*;

use super::encoding::*;
use crate::vocab::{SpecialIds, TokenId};

const SPECIAL: SpecialIds = SpecialIds::BERT_UNCASED;

fn pair(keep: Keep, focus: Option<usize>) -> Pair<'static> {
    const SOURCE: [TokenId; 8] = [1, 2, 3, 4, 5, 6, 7, 8];
    Pair { prefix: &[], source: &SOURCE, suffix: &[103, 50], keep, focus, target: &[60, 61] }
}

fn context(encoder: &PairEncoder, pair: &Pair<'_>) -> (Vec<TokenId>, usize) {
    let mut ids = Vec::new();
    let blanks = encoder.push_context(pair, &mut ids).expect("fits");
    assert_eq!(blanks.len(), 1);
    (ids, blanks[0])
}

#[test]
fn the_kept_part_of_a_long_source_depends_on_the_pair() {
    let encoder = PairEncoder::new(SPECIAL, 7, 3, PairLayout::Compact);
    for (keep, focus, expected) in [
        (Keep::Start, None, [1, 2, 3, 4]),
        (Keep::End, None, [5, 6, 7, 8]),
        (Keep::Around, Some(4), [3, 4, 5, 6]),
        (Keep::Around, Some(1), [1, 2, 3, 4]),
        (Keep::Around, None, [1, 2, 3, 4]),
    ] {
        let (ids, blank) = context(&encoder, &pair(keep, focus));
        assert_eq!((&ids[1..5], &ids[5..], blank), (&expected[..], &[103, 50][..], 5));
    }
    // Near the end, the published window is shorter.
    assert_eq!(encoder.kept_source(&pair(Keep::Around, Some(7))), Ok(5..8));
}

#[test]
fn a_cut_target_has_no_end_of_piece() {
    let pair = pair(Keep::Start, None);
    for (max_target, expected, is_cut) in [(3, &[60, 61, SPECIAL.eop][..], false), (2, &[60, 61], true), (1, &[60], true)] {
        let encoder = PairEncoder::new(SPECIAL, 20, max_target, PairLayout::Compact);
        assert_eq!(encoder.targets(&pair).collect::<Vec<_>>(), expected);
        let size = encoder.size(&pair).expect("fits");
        assert_eq!((size.context, size.targets, size.is_target_cut), (11, expected.len(), is_cut));
    }
}

#[test]
fn masks_of_the_source_are_the_blank_only_as_published() {
    let pair = Pair { source: &[9, 103], ..pair(Keep::End, None) };
    let compact = PairEncoder::new(SPECIAL, 8, 3, PairLayout::Compact);
    assert_eq!(context(&compact, &pair), (vec![101, 9, 103, 103, 50], 3));
    let published = PairEncoder::new(SPECIAL, 8, 3, PairLayout::Published);
    assert_eq!(context(&published, &pair), (vec![101, 9, 103, 103, 50, 0, 0, 0], 2));
    // A question before the source comes before the blank.
    let asked = Pair { prefix: &[103, 7, 103, 8], suffix: &[], ..pair };
    assert_eq!(context(&compact, &asked).1, 3);
    assert_eq!(context(&compact.with_mask(30525), &asked).0, [101, 103, 7, 30525, 8, 9, 103]);
}

#[test]
fn blanks_of_a_source_have_a_piece_each() {
    const EOP: TokenId = SPECIAL.eop;
    let (source, target) = ([9, 103, 8, 103, 7, 103], [60, EOP, 61, 62, EOP, 63]);
    let pair = Pair { prefix: &[], source: &source, suffix: &[], keep: Keep::Start, focus: None, target: &target };
    let encoder = |max_source, max_target| PairEncoder::new(SPECIAL, max_source, max_target, PairLayout::Compact);
    let input = encoder(20, 20).encode(&pair).expect("fits");
    assert_eq!(input.ids[..input.sep], [101, 9, 103, 8, 103, 7, 103]);
    assert_eq!(input.ids[input.sep..], [SPECIAL.sop, 60, SPECIAL.sop, 61, 62, SPECIAL.sop, 63]);
    assert_eq!(input.targets, [60, EOP, 61, 62, EOP, 63, EOP]);
    assert_eq!(input.position[input.sep..], [2, 2, 4, 4, 4, 6, 6]);
    assert_eq!(input.block_position[input.sep..], [1, 2, 1, 2, 3, 1, 2]);
    // A cut source has fewer blanks, and a cut target fewer tokens.
    let size = encoder(5, 4).size(&pair).expect("fits");
    assert_eq!((size.context, size.targets, size.cut_source, size.is_target_cut), (5, 4, 2, true));
    assert_eq!(encoder(5, 20).targets(&pair).collect::<Vec<_>>(), [60, EOP, 61, 62, EOP]);
    assert_eq!(encoder(3, 20).encode(&pair).expect("fits").targets, [60, EOP]);
    assert_eq!(encoder(2, 20).push_context(&pair, &mut Vec::new()), Err(PairError::NoBlank { mask: 103 }));
    // As published, without [CLS] and with padding.
    let published = PairEncoder::new(SPECIAL, 8, 20, PairLayout::Published).with_mask(30525).encode(&pair).expect("fits");
    assert_eq!(published.ids[..published.sep], [9, 103, 8, 103, 7, 103, 0, 0]);
    assert_eq!(published.position[published.sep..], [1, 1, 3, 3, 3, 5, 5]);
}

#[test]
fn what_does_not_fit_is_an_error() {
    let encoder = PairEncoder::new(SPECIAL, 2, 3, PairLayout::Compact);
    assert_eq!(encoder.size(&pair(Keep::Start, None)), Err(PairError::DoesNotFit { fixed: 3, max_source: 2 }));
    let encoder = PairEncoder::new(SPECIAL, 20, 3, PairLayout::Compact);
    let error = encoder.push_context(&Pair { suffix: &[1], ..pair(Keep::Start, None) }, &mut Vec::new());
    assert_eq!(error, Err(PairError::NoBlank { mask: 103 }));
}

proptest! {
    #[test]
    fn contexts_have_the_measured_size_and_never_exceed_the_maximum(
        source in prop::collection::vec(1000..2000_i32, 0..40), prefix in 0..5_usize, max_source in 8..30_usize,
        keep in prop::sample::select(Keep::ALL.to_vec()), focus in prop::option::of(0..50_usize), published: bool,
    ) {
        let fixed = vec![7; prefix];
        let pair = Pair { prefix: &fixed, source: &source, suffix: &[103, 0], keep, focus, target: &[] };
        let layout = if published { PairLayout::Published } else { PairLayout::Compact };
        let encoder = PairEncoder::new(SPECIAL, max_source, 4, layout);
        let mut ids = vec![5, 5];
        let blank = encoder.push_context(&pair, &mut ids).expect("fits")[0];
        let size = encoder.size(&pair).expect("fits");
        prop_assert_eq!(ids.len() - 2, size.context);
        prop_assert!(size.context <= max_source);
        prop_assert_eq!(ids[2 + blank], 103);
        prop_assert_eq!(size.targets, 1);
    }
}
