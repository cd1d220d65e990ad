#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "calque/core/matrix.h"
#include "calque/forward/block_runner.h"
#include "calque/model/family.h"
#include "calque/model/weight_source.h"

namespace calque::forward {

// Token ids counted anew over those that occur, so that no other row of an embedding has to be in
// memory: a text of 65536 tokens needs some thousand of the 128256 rows of Llama 3.
struct TokenRows {
  std::vector<Index> rows_U;    // ids that occur, ascending
  Matrix<std::int32_t> ids_BS;  // the index in rows_U of each real token; padding is 0
};

// Row b of ids_BS has lengths_B[b] real tokens. Ids outside [0, vocabulary) are
// Error(kInput, "E167").
TokenRows token_rows(MatrixView<const std::int32_t> ids_BS, std::span<const Index> lengths_B,
                     Index vocabulary);

// BlockRunner::embed's conditions: a length for every sequence, none longer than a row, and ids
// that are rows of the embedding (Error(kInput, "E167")).
void check_ids(MatrixView<const std::int32_t> ids_BS, std::span<const Index> lengths_B,
               Index vocabulary);

// Rows of an embedding (ascending), which must be finite: Error(kInput, "E164") naming the row.
Matrix<float> embedding_rows(const model::WeightSource& weights, const model::TensorSpec& embedding,
                             std::span<const Index> rows_U);

// BlockRunner::embed with the rows that are needed of the family's embedding; and its layers' own
// embeddings (model::LayerEmbeddings), where it has those.
std::unique_ptr<HiddenStates> embed_tokens(BlockRunner& runner, const model::WeightSource& weights,
                                           const model::FamilySpec& family,
                                           MatrixView<const std::int32_t> ids_BS,
                                           std::span<const Index> lengths_B);

// The same of rows that the caller has: row u of `rows_UH` embeds token rows_U[u] of the family's
// vocabulary, and ids_BS counts these rows.
std::unique_ptr<HiddenStates> embed_rows(BlockRunner& runner, const model::WeightSource& weights,
                                         const model::FamilySpec& family,
                                         std::span<const Index> rows_U,
                                         MatrixView<const float> rows_UH,
                                         MatrixView<const std::int32_t> ids_BS,
                                         std::span<const Index> lengths_B);

}  // namespace calque::forward
