#include <algorithm>
#include <cmath>

#include "calque/core/openmp.h"
#include "calque/core/parallel.h"
#include "calque/forward/cost.h"
#include "calque/forward/token_rows.h"
#include "forward/cpu/loops.h"
#include "forward/cpu/products.h"

namespace calque::forward {
namespace {

// Makes the embeddings that layers have of tokens, on the host and in fp32 whatever the runner
// computes in.
class LayerEmbedder {
 public:
  LayerEmbedder(const model::WeightSource& weights, const model::LayerEmbeddings& spec)
      : weights_(weights),
        spec_(spec),
        projection_WH_(weights.load(spec.projection.name)),
        norm_1D_(weights.load(spec.norm.weight.name)) {}

  // One sequence's, [tokens, layers * width]. `tokens_S` are rows of the table, x_TH the tokens'
  // own embeddings.
  Matrix<float> rows(std::span<const Index> tokens_S, MatrixView<const float> x_TH) const {
    Matrix<float> made_TW = Matrix<float>::uninitialized(x_TH.rows(), projection_WH_.rows());
    const std::vector<Index> rows_U = sorted(tokens_S);
    const Matrix<float> table_UW = embedding_rows(weights_, spec_.table, rows_U);
    const Index chunks = (x_TH.rows() + kChunkRows - 1) / kChunkRows;
    parallel_for(chunks, 0, [&](Index chunk) {
      const OneOpenMpThread guard;
      const Index first = chunk * kChunkRows;
      const MatrixView<float> rows_TW =
          made_TW.view().rows(first, std::min(kChunkRows, x_TH.rows() - first));
      multiply_transposed(x_TH.rows(first, rows_TW.rows()), projection_WH_, rows_TW);
      for (Index t = 0; t < rows_TW.rows(); ++t) {
        const Index token = tokens_S[static_cast<std::size_t>(first + t)];
        const auto u = std::lower_bound(rows_U.begin(), rows_U.end(), token) - rows_U.begin();
        finish(table_UW.row(u), rows_TW.row(t));
      }
    });
    return made_TW;
  }

 private:
  static std::vector<Index> sorted(std::span<const Index> tokens_S) {
    std::vector<Index> rows(tokens_S.begin(), tokens_S.end());
    std::sort(rows.begin(), rows.end());
    rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
    return rows;
  }

  // One token's: from its projection to what the layers read.
  void finish(const float* own, float* row) const {
    const MatrixView<float> layers_LD(row, projection_WH_.rows() / spec_.width, spec_.width);
    const NormWeight norm{norm_1D_, 0.0f, static_cast<float>(spec_.norm.epsilon)};
    loops().of_float.rms_norm(layers_LD, norm, layers_LD);
    const float scale = std::sqrt(static_cast<float>(spec_.width));
    const float half = std::sqrt(0.5f);
    for (Index i = 0; i < layers_LD.size(); ++i) row[i] = half * (row[i] + scale * own[i]);
  }

  const model::WeightSource& weights_;
  const model::LayerEmbeddings& spec_;
  Matrix<float> projection_WH_;
  Matrix<float> norm_1D_;
};

}  // namespace

std::unique_ptr<HiddenStates> embed_rows(BlockRunner& runner, const model::WeightSource& weights,
                                         const model::FamilySpec& family,
                                         std::span<const Index> rows_U,
                                         MatrixView<const float> rows_UH,
                                         MatrixView<const std::int32_t> ids_BS,
                                         std::span<const Index> lengths_B) {
  std::unique_ptr<HiddenStates> hidden = runner.embed(ids_BS, lengths_B, rows_UH);
  if (!family.layer_embeddings) return hidden;
  const LayerEmbedder embedder(weights, *family.layer_embeddings);
  const model::KeptRows kept{std::string(model::LayerEmbeddings::kName),
                             family.layer_embeddings->projection.shape[0]};
  for (Index b = 0; b < ids_BS.rows(); ++b) {
    const Index length = lengths_B[static_cast<std::size_t>(b)];
    std::vector<Index> tokens_S;
    Matrix<float> x_TH = Matrix<float>::uninitialized(length, rows_UH.cols());
    for (Index t = 0; t < length; ++t) {
      tokens_S.push_back(rows_U[static_cast<std::size_t>(ids_BS(b, t))]);
      std::copy_n(rows_UH.row(ids_BS(b, t)), rows_UH.cols(), x_TH.row(t));
    }
    runner.keep(*hidden, kept, b, embedder.rows(tokens_S, x_TH));
  }
  return hidden;
}

std::unique_ptr<HiddenStates> embed_tokens(BlockRunner& runner, const model::WeightSource& weights,
                                           const model::FamilySpec& family,
                                           MatrixView<const std::int32_t> ids_BS,
                                           std::span<const Index> lengths_B) {
  const TokenRows tokens = token_rows(ids_BS, lengths_B, family.embedding.shape[0]);
  return embed_rows(runner, weights, family, tokens.rows_U,
                    embedding_rows(weights, family.embedding, tokens.rows_U), tokens.ids_BS,
                    lengths_B);
}

}  // namespace calque::forward
