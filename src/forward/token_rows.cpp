#include "calque/forward/token_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>

#include "calque/core/error.h"

namespace calque::forward {
namespace {

template <typename Body>
void for_each_token(MatrixView<const std::int32_t> ids_BS, std::span<const Index> lengths_B,
                    const Body& body) {
  for (Index b = 0; b < ids_BS.rows(); ++b)
    for (Index s = 0; s < lengths_B[static_cast<std::size_t>(b)]; ++s) body(b, s);
}

void check_id(std::int32_t id, Index sequence, Index position, Index vocabulary) {
  if (id < 0 || id >= vocabulary)
    throw Error(ErrorKind::kInput, "E167",
                fmt::format("token id {} (sequence {}, position {}) is outside the model's "
                            "vocabulary of {}; was the text tokenized for another model?",
                            id, sequence, position, vocabulary));
}

}  // namespace

void check_ids(MatrixView<const std::int32_t> ids_BS, std::span<const Index> lengths_B,
               Index vocabulary) {
  assert(static_cast<Index>(lengths_B.size()) == ids_BS.rows());
  assert(std::ranges::all_of(lengths_B, [&](Index n) { return n >= 0 && n <= ids_BS.cols(); }));
  for_each_token(ids_BS, lengths_B,
                 [&](Index b, Index s) { check_id(ids_BS(b, s), b, s, vocabulary); });
}

TokenRows token_rows(MatrixView<const std::int32_t> ids_BS, std::span<const Index> lengths_B,
                     Index vocabulary) {
  std::vector<std::int32_t> index_of(static_cast<std::size_t>(vocabulary), -1);
  for_each_token(ids_BS, lengths_B, [&](Index b, Index s) {
    const std::int32_t id = ids_BS(b, s);
    check_id(id, b, s, vocabulary);
    index_of[static_cast<std::size_t>(id)] = 0;
  });

  TokenRows result;
  for (Index id = 0; id < vocabulary; ++id) {
    if (index_of[static_cast<std::size_t>(id)] < 0) continue;
    index_of[static_cast<std::size_t>(id)] = static_cast<std::int32_t>(result.rows_U.size());
    result.rows_U.push_back(id);
  }
  result.ids_BS = Matrix<std::int32_t>(ids_BS.rows(), ids_BS.cols());
  for_each_token(ids_BS, lengths_B, [&](Index b, Index s) {
    result.ids_BS(b, s) = index_of[static_cast<std::size_t>(ids_BS(b, s))];
  });
  return result;
}

Matrix<float> embedding_rows(const model::WeightSource& weights, const model::TensorSpec& embedding,
                             std::span<const Index> rows_U) {
  Matrix<float> rows_UH = weights.load_rows(embedding.name, rows_U);
  for (Index u = 0; u < rows_UH.rows(); ++u)
    model::require_finite(embedding.name, rows_UH.view().rows(u, 1),
                          rows_U[static_cast<std::size_t>(u)]);
  return rows_UH;
}

}  // namespace calque::forward
