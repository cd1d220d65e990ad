#include "eval/row_scorer.h"

#include <algorithm>

#include "calque/eval/cost.h"

namespace calque::eval {

Index predicting_positions(const text::TokenBlocks& rows, Index row) {
  return rows.lengths_B[static_cast<std::size_t>(row)] - (rows.next(row) < 0 ? 1 : 0);
}

RowScorer::RowScorer(Lane& reference, const std::vector<Lane*>& candidates,
                     const text::TokenBlocks& rows)
    : reference_(reference), candidates_(candidates), rows_(rows) {
  vocab_size_ = reference.model->config->vocab_size;
  chunk_ = scored_rows(vocab_size_, rows.seqlen());
}

void RowScorer::score(Index row, Index begin) const {
  const Index predictions = predicting_positions(rows_, row);
  Matrix<float> logits_TV = Matrix<float>::uninitialized(chunk_, vocab_size_);
  std::vector<Distribution> references(static_cast<std::size_t>(chunk_), Distribution(size()));
  Distribution candidate(size());
  for (Index first = begin; first < predictions; first += chunk_) {
    const MatrixView<float> logits =
        logits_TV.view().rows(0, std::min(chunk_, predictions - first));
    reference_.head->logits(*reference_.hidden, row, first, logits);
    for (Index t = 0; t < logits.rows(); ++t) {
      Distribution& reference = references[static_cast<std::size_t>(t)];
      reference.set({logits.row(t), size()});
      record(reference_, row, first + t, reference, reference);
    }
    for (Lane* lane : candidates_) {
      lane->head->logits(*lane->hidden, row, first, logits);
      for (Index t = 0; t < logits.rows(); ++t) {
        candidate.set({logits.row(t), size()});
        record(*lane, row, first + t, references[static_cast<std::size_t>(t)], candidate);
      }
    }
  }
}

void RowScorer::record(Lane& lane, Index row, Index position, const Distribution& reference,
                       const Distribution& candidate) const {
  const Index after = position + 1;
  const bool inside = after < rows_.lengths_B[static_cast<std::size_t>(row)];
  Prediction p = compare(reference, candidate, inside ? rows_.ids_BS(row, after) : rows_.next(row));
  p.second_half = position >= rows_.seqlen() / 2 && after < rows_.seqlen();
  lane.predictions[static_cast<std::size_t>(row * rows_.seqlen() + position)] = p;
}

}  // namespace calque::eval
