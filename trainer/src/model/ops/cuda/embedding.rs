//! The sum of three embeddings.

use glm_kernels::cuda::calls::{EmbeddingChunks, EmbeddingForward, EmbeddingRows};
use glm_kernels::dropout::Site;
use libtorch_ext::autograd::record;
use tch::{Kind, TchError, Tensor};

use super::launch::{Form, Launcher};
use super::{check_size, contiguous, defined, dropout_arguments, gradient_of, number, row_block};
use crate::batch::blocks::BlockTables;
use crate::batch::device::DeviceBatch;
use crate::model::ops::clock::{Stage, timed};
use crate::model::ops::fused::check_lookups;

/// Dropout of the sum of the rows of word, position and block position tables that a batch's tokens take: `[tokens, width]` in `kind`.
///
/// # Errors
/// A [`TchError`]; a token that is not in a table is one.
pub(super) fn embed(
    launcher: Launcher,
    tables: [&Tensor; 3],
    batch: &DeviceBatch,
    blocks: &BlockTables,
    site: Site,
    kind: Kind,
) -> Result<Tensor, TchError> {
    let (tokens, width, device) = (batch.ids.size1()?, tables[0].size2()?.1, tables[0].device());
    check_size(tokens, width)?;
    check_lookups(tables, &batch.host.inputs)?;
    let (block, _) = row_block(width)?;
    let form = Form { size: block, dropout: true, ..Form::default() };
    let [words, positions, block_positions] = tables.map(Tensor::f_detach);
    let (words, positions, block_positions) = (words?, positions?, block_positions?);
    let [word_gradient, position_gradient, block_gradient] = tables.map(gradient_of);
    let gradients = [word_gradient?, position_gradient?, block_gradient?];
    let key = blocks.all.key.shallow_clone();
    let out = Tensor::f_empty([tokens, width], (kind, device))?;
    let (site, limit, keep_scale) = dropout_arguments(site);
    let forward = EmbeddingForward {
        words: &words,
        positions: &positions,
        block_positions: &block_positions,
        word: &batch.ids,
        position: &batch.position,
        block_position: &batch.block_position,
        out: &out,
        key: &key,
        site,
        limit,
        keep_scale,
        tokens: number(tokens)?,
        width: number(width)?,
    };
    // SAFETY: the tables are contiguous fp32 [rows, width], and the check above shows that they have all rows that are taken; out is
    // [tokens, width], the others [tokens].
    timed(Stage::Embedding, device, || unsafe { launcher.launch(form, [tokens as usize, 1], forward) })?;
    let (saved, like) = (blocks.embeddings.share(), out.f_detach()?);
    record(c"glm::embed", &tables, &[&out], move |grads| {
        defined(&gradients.each_ref())?;
        timed(Stage::Embedding, device, || {
            let d_out = contiguous(grads[0].as_ref(), &like)?;
            let chunks = saved.chunks.numel() / 2;
            let partial = Tensor::f_empty([chunks as i64, width], (Kind::Float, device))?;
            let call = EmbeddingChunks {
                d_out: &d_out,
                token: &saved.token,
                chunks: &saved.chunks,
                partial: &partial,
                key: &key,
                site,
                limit,
                keep_scale,
                width: number(width)?,
            };
            // SAFETY: chunks are ranges of the sorted tokens, which are indices of rows of d_out; `partial` has a row for each.
            unsafe { launcher.launch(form, [chunks, 1], call) }?;
            let form = Form { size: block, any_element: true, ..Form::default() };
            for (rows, gradient) in saved.rows.iter().zip(&gradients) {
                let call = EmbeddingRows { partial: &partial, rows, gradient, width: number(width)? };
                // SAFETY: each row is a row of the table, as checked above, with its own range of chunks.
                unsafe { launcher.launch(form, [rows.numel() / 3, 1], call) }?;
            }
            Ok::<_, TchError>(())
        })?;
        Ok(vec![None, None, None])
    })?;
    Ok(out)
}
