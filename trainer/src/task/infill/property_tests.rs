//! Properties of every document, mixture and key.

use arrow_array::RecordBatch;
use glm_schemas::document::{DocumentBatchBuilder, DocumentRow};
use glm_schemas::origin::Origin;
use glm_schemas::vocab::{SpecialIds, TokenId};
use proptest::prelude::*;

use super::Infill;
use super::settings::InfillSettings;
use crate::batch::packed::Batch;
use crate::batch::work::Work;
use crate::task::{Purpose, Task};

/// Tokens from here on are those of prompts.
const PROMPT: TokenId = 20_000;

#[derive(Debug, Clone)]
struct Written {
    prompt: usize,
    text: usize,
    /// Every how many tokens a sentence ends; 0: never.
    sentence: usize,
}

impl Written {
    fn tokens(&self) -> (Vec<TokenId>, Vec<TokenId>, Vec<i32>) {
        // Tokens are different, so that a token identifies its place in the document.
        let prompt = (0..self.prompt).map(|i| PROMPT + i as TokenId).collect();
        let text = (0..self.text).map(|i| 1000 + i as TokenId).collect();
        let ends = (1..=self.text as i32).filter(|end| self.sentence > 0 && end % self.sentence as i32 == 0).collect();
        (prompt, text, ends)
    }

    fn rows(&self) -> RecordBatch {
        let (prompt_ids, ids, sentence_ends) = self.tokens();
        let mut builder = DocumentBatchBuilder::new();
        let row = DocumentRow {
            example_id: "d",
            origin: Origin::NONE,
            source: "s",
            prompt: None,
            text: "",
            prompt_ids: &prompt_ids,
            ids: &ids,
            sentence_ends: &sentence_ends,
        };
        builder.append(&row).expect("row");
        builder.finish().expect("batch")
    }
}

fn written() -> impl Strategy<Value = Written> {
    (prop_oneof![3 => Just(0_usize), 1 => 1_usize..120], 1_usize..300, 0_usize..30)
        .prop_map(|(prompt, text, sentence)| Written { prompt, text, sentence })
}

fn settings() -> impl Strategy<Value = InfillSettings> {
    let shares = prop_oneof![Just((1.0, 0.0)), Just((0.0, 1.0)), Just((0.0, 0.0)), Just((0.4, 0.3))];
    (shares, 0.0..0.3, 0.0..0.5, 0.0..0.9, 0.0..0.3, any::<bool>()).prop_map(
        |((token, sentence), single_span, short_pieces, min_ratio, input_masking, task_mask)| InfillSettings {
            token,
            sentence,
            document: 1.0 - token - sentence,
            single_span,
            short_pieces,
            min_ratio,
            input_masking,
            task_mask,
            ..InfillSettings::default()
        },
    )
}

fn packed(task: &Infill, rows: &RecordBatch, key: u64) -> Batch {
    let mut packer = task.row_packer(Purpose::Train);
    let size = packer.measure(rows, 0, key).expect("measured");
    let mut batch = Batch::default();
    let groups = packer.pack(0, 7, &mut batch).expect("packed");
    batch.end_example(0, 0, groups);
    packer.finish(&mut batch);
    let longest_row = batch.inputs.max_row();
    // Padding depends on the batch, so it is not measured.
    assert_eq!((size.work, size.longest_row), (Work { padded: 0, ..Work::of(&batch) }, longest_row));
    batch
}

/// The tokens of row `row` before spans were taken from it, put together from its context and its targets. `None` if targets are missing
/// because they are of the prompt.
fn restored(batch: &Batch, row: usize) -> Option<Vec<i64>> {
    let (inputs, targets) = (&batch.inputs, &batch.targets);
    let span = inputs.rows[row];
    let mut pieces: Vec<(i64, Vec<i64>)> = Vec::new();
    let mut predicted = 0;
    for token in span.start + span.context..span.start + span.length {
        if inputs.block_position[token] == 1 {
            pieces.push((inputs.position[token], Vec::new()));
        }
        let of_token =
            (0..targets.token.len()).find(|target| targets.scored[targets.scored_index[*target] as usize] == token as i64);
        if let (Some(target), Some((_, piece))) = (of_token, pieces.last_mut()) {
            piece.push(targets.token[target]);
            predicted += 1;
        }
    }
    if predicted < span.length - span.context {
        return None;
    }
    pieces.sort_by_key(|(position, _)| *position);
    let context = &inputs.ids[span.start..span.start + span.context];
    let (mut whole, mut next) = (Vec::new(), 0);
    for (position, mut piece) in pieces {
        whole.extend(&context[next..position as usize]);
        piece.retain(|id| *id != i64::from(SpecialIds::BERT_UNCASED.eop));
        whole.extend(piece);
        next = position as usize + 1;
    }
    whole.extend(&context[next..]);
    Some(whole)
}

proptest! {
    #[test]
    fn samples_are_parts_of_their_document(
        document in written(), settings in settings(), max_seq_len in 16_usize..200, key in 1_u64..,
    ) {
        let special = SpecialIds::BERT_UNCASED;
        let task = Infill::new(special, max_seq_len, settings);
        let rows = document.rows();
        let batch = packed(&task, &rows, key);
        prop_assert_eq!(&batch, &packed(&task, &rows, key), "a function of the key");
        let (inputs, targets) = (&batch.inputs, &batch.targets);
        prop_assert_eq!(targets.groups, 1);
        prop_assert!(settings.short_pieces > 0.0 || !targets.token.is_empty(), "something is predicted");
        prop_assert!(targets.token.iter().all(|id| *id < i64::from(PROMPT) || *id == i64::from(special.eop)), "no prompt");
        prop_assert!(inputs.position.iter().all(|position| *position < max_seq_len as i64));
        prop_assert!(inputs.block_position.iter().all(|position| *position <= max_seq_len as i64));

        let (prompt, text, _) = document.tokens();
        let whole: Vec<i64> = prompt.iter().chain(&text).chain([&special.pad]).map(|id| i64::from(*id)).collect();
        for row in 0..inputs.rows.len() {
            let Some(found) = restored(&batch, row) else { continue };
            prop_assert!(found.len() <= max_seq_len, "{} tokens", found.len());
            prop_assert_eq!(found[0], i64::from(special.cls));
            prop_assert!(whole.windows(found.len() - 1).any(|window| *window == found[1..]), "{:?}", found);
        }
    }

    #[test]
    fn a_document_is_as_many_samples_as_cover_it(document in written(), max_seq_len in 16_usize..200) {
        let task = Infill::new(SpecialIds::BERT_UNCASED, max_seq_len, InfillSettings::default());
        let tokens = document.prompt + document.text + 2;
        let samples = task.samples(&document.rows()).expect("columns")[0] as usize;
        prop_assert!(samples * max_seq_len >= tokens && (samples - 1) * max_seq_len < tokens);
    }
}
