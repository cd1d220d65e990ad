#include "calque/model/block_runner.h"

#include <fmt/format.h>
#include <torch/csrc/api/include/torch/version.h>

#include <algorithm>

#include "calque/core/error.h"
#include "model/torch/block_math.h"
#include "model/torch/plugin.h"
#include "model/torch/rows.h"
#include "model/torch/sequences.h"
#include "model/torch/tensors.h"

namespace calque::model {
namespace {

// Rows that an observer gets at a time: enough for an efficient Gram matrix, small beside the rest.
constexpr Index kObservedRows = 4096;
// Rows that one thread norms at a time.
constexpr Index kNormedRows = 256;

ActivationView activation_view(MatrixView<const float> rows) { return {rows, {}}; }
ActivationView activation_view(MatrixView<const BFloat16> rows) { return {{}, rows}; }

// One block over all sequences.
template <typename T>
class BlockPass {
 public:
  BlockPass(const BlockSpec& block, BlockWeights& weights, const ModelConfig& config, int threads,
            TorchHiddenStates& hidden)
      : block_(block),
        weights_(weights),
        threads_(threads),
        hidden_(hidden),
        math_(block, weights, config, hidden.rotary()) {}

  // Every sequence in one piece.
  void run() {
    for (const SiteSpec& site : block_.sites) math_.prepare(site.kind);
    each_sequence([&](Index s) {
      const MatrixView<float> hidden_TH = hidden_.sequence_TH(s);
      const at::Tensor attended = new_tensor<T>(hidden_TH.rows(), math_.attention_width());
      math_.attention(hidden_TH, view_of<T>(attended));
      math_.add_output(SiteKind::kAttnOut, view_of<T>(attended), hidden_TH);
      const at::Tensor activated = new_tensor<T>(hidden_TH.rows(), math_.mlp_width());
      math_.activation(hidden_TH, view_of<T>(activated));
      math_.add_output(SiteKind::kMlpOut, view_of<T>(activated), hidden_TH);
    });
  }

  // The same steps, each over all sequences before the next.
  void run_staged(BlockObserver& observer) {
    show_norm(observer, SiteKind::kAttnIn);
    run_half(observer, SiteKind::kAttnOut, math_.attention_width(), &BlockMath<T>::attention);
    show_norm(observer, SiteKind::kMlpIn);
    run_half(observer, SiteKind::kMlpOut, math_.mlp_width(), &BlockMath<T>::activation);
  }

 private:
  using Step = void (BlockMath<T>::*)(MatrixView<const float>, MatrixView<T>) const;

  void each_sequence(const std::function<void(Index)>& body) {
    parallel_over(hidden_.sequences(), threads_, [&](Index s) {
      if (hidden_.length(s) > 0) body(s);
    });
  }

  void finish_site(BlockObserver& observer, const SiteSpec& site) {
    observer.site_ready(site, weights_);
    math_.prepare(site.kind);
  }

  // The norms are computed again in the next step: cheaper than keeping them for all rows.
  void show_norm(BlockObserver& observer, SiteKind kind) {
    const SiteSpec& site = block_.site(kind);
    const MatrixView<const float> hidden_TH = hidden_.all_TH();
    Matrix<T> normed_TH =
        Matrix<T>::uninitialized(std::min(kObservedRows, hidden_TH.rows()), hidden_TH.cols());
    for (Index first = 0; first < hidden_TH.rows(); first += kObservedRows) {
      const Index count = std::min(kObservedRows, hidden_TH.rows() - first);
      const MatrixView<T> chunk_TH = normed_TH.view().rows(0, count);
      norm_rows(kind, hidden_TH.rows(first, count), chunk_TH);
      observer.site_input(site, activation_view(chunk_TH));
    }
    finish_site(observer, site);
  }

  void norm_rows(SiteKind kind, MatrixView<const float> hidden_TH, MatrixView<T> out_TH) {
    const Index pieces = (hidden_TH.rows() + kNormedRows - 1) / kNormedRows;
    parallel_over(pieces, threads_, [&](Index piece) {
      const Index first = piece * kNormedRows;
      const Index count = std::min(kNormedRows, hidden_TH.rows() - first);
      if (kind == SiteKind::kAttnIn)
        math_.attn_norm(hidden_TH.rows(first, count), out_TH.rows(first, count));
      else
        math_.mlp_norm(hidden_TH.rows(first, count), out_TH.rows(first, count));
    });
  }

  // `step` makes the inputs of `kind` for all rows; they are shown and then go through its linear.
  void run_half(BlockObserver& observer, SiteKind kind, Index width, Step step) {
    const SiteSpec& site = block_.site(kind);
    Matrix<T> inputs_TK = Matrix<T>::uninitialized(hidden_.rows(), width);
    const auto rows_of = [&](Index s) {
      return inputs_TK.view().rows(hidden_.first(s), hidden_.length(s));
    };
    each_sequence([&](Index s) { (math_.*step)(hidden_.sequence_TH(s), rows_of(s)); });
    for (Index first = 0; first < inputs_TK.rows(); first += kObservedRows) {
      const Index count = std::min(kObservedRows, inputs_TK.rows() - first);
      observer.site_input(site, activation_view(inputs_TK.view().rows(first, count)));
    }
    finish_site(observer, site);
    each_sequence([&](Index s) { math_.add_output(kind, rows_of(s), hidden_.sequence_TH(s)); });
  }

  const BlockSpec& block_;
  BlockWeights& weights_;
  int threads_;
  TorchHiddenStates& hidden_;
  BlockMath<T> math_;
};

template <typename T>
class TorchHead : public Head {
 public:
  TorchHead(MatrixView<const float> norm_1H, MatrixView<const float> head_VH, float eps)
      : norm_1H_(Matrix<float>::copy_of(norm_1H)),
        head_VH_(std::is_same_v<T, float> ? Matrix<float>::copy_of(head_VH) : Matrix<float>()),
        linear_(std::is_same_v<T, float> ? head_VH_.view() : head_VH, {}),
        eps_(eps) {}

  void logits(const HiddenStates& hidden, Index sequence, Index first,
              MatrixView<float> logits_TV) const override {
    translate_errors([&] {
      const OneThread guard;
      const auto& states = dynamic_cast<const TorchHiddenStates&>(hidden);
      const MatrixView<const float> rows_TH =
          states.sequence_TH(sequence).rows(first, logits_TV.rows());
      const at::Tensor normed = new_tensor<T>(rows_TH.rows(), rows_TH.cols());
      rms_norm_rows(rows_TH, norm_1H_, eps_, view_of<T>(normed));
      project(view_of<T>(normed), logits_TV);
    });
  }

 private:
  void project(MatrixView<const float> normed_TH, MatrixView<float> logits_TV) const {
    linear_.apply(normed_TH, logits_TV);
  }
  void project(MatrixView<const BFloat16> normed_TH, MatrixView<float> logits_TV) const {
    const at::Tensor rounded = new_tensor<BFloat16>(logits_TV.rows(), logits_TV.cols());
    linear_.apply(normed_TH, view_of<BFloat16>(rounded));
    borrow(logits_TV).copy_(rounded);
  }

  Matrix<float> norm_1H_;
  Matrix<float> head_VH_;  // empty in bf16, where the linear has its own copy
  PreparedLinear<T> linear_;
  float eps_;
};

class TorchBlockRunner : public BlockRunner {
 public:
  TorchBlockRunner(const ModelConfig& config, const RunnerOptions& options)
      : config_(config), options_(options) {}

  std::unique_ptr<HiddenStates> embed(MatrixView<const std::int32_t> ids_BS,
                                      std::span<const Index> lengths_B,
                                      MatrixView<const float> embedding_VH) override {
    check_ids(ids_BS, lengths_B, embedding_VH.rows());
    auto hidden = std::make_unique<TorchHiddenStates>(config_.rope, config_.head_dim,
                                                      embedding_VH.cols(), lengths_B);
    parallel_for(hidden->sequences(), options_.threads, [&](Index b) {
      const MatrixView<float> rows_TH = hidden->sequence_TH(b);
      for (Index s = 0; s < rows_TH.rows(); ++s)
        std::copy_n(embedding_VH.row(ids_BS(b, s)), rows_TH.cols(), rows_TH.row(s));
    });
    return hidden;
  }

  void run_block(const BlockSpec& block, BlockWeights& weights, HiddenStates& hidden,
                 BlockObserver* observer) override {
    auto& states = dynamic_cast<TorchHiddenStates&>(hidden);
    translate_errors([&] {
      if (options_.dtype == ComputeDType::kBFloat16)
        run_block_in<BFloat16>(block, weights, states, observer);
      else
        run_block_in<float>(block, weights, states, observer);
    });
  }

  Matrix<float> half_output(const BlockSpec& block, const BlockWeights& weights,
                            const HiddenStates& hidden, BlockHalf half,
                            Index sequence) const override {
    const auto& states = dynamic_cast<const TorchHiddenStates&>(hidden);
    Matrix<float> output_TH;
    translate_errors([&] {
      output_TH = options_.dtype == ComputeDType::kBFloat16
                      ? half_output_in<BFloat16>(block, weights, states, half, sequence)
                      : half_output_in<float>(block, weights, states, half, sequence);
    });
    return output_TH;
  }

  std::unique_ptr<Head> make_head(MatrixView<const float> final_norm_1H,
                                  MatrixView<const float> head_VH) override {
    const auto eps = static_cast<float>(config_.rms_norm_eps);
    std::unique_ptr<Head> head;
    translate_errors([&] {
      if (options_.dtype == ComputeDType::kBFloat16)
        head = std::make_unique<TorchHead<BFloat16>>(final_norm_1H, head_VH, eps);
      else
        head = std::make_unique<TorchHead<float>>(final_norm_1H, head_VH, eps);
    });
    return head;
  }

 private:
  template <typename T>
  Matrix<float> half_output_in(const BlockSpec& block, const BlockWeights& weights,
                               const TorchHiddenStates& states, BlockHalf half,
                               Index sequence) const {
    const OneThread guard;
    BlockMath<T> math(block, weights, config_, states.rotary());
    const MatrixView<const float> hidden_TH = states.sequence_TH(sequence);
    const bool attention = half == BlockHalf::kAttention;
    const SiteKind in = attention ? SiteKind::kAttnIn : SiteKind::kMlpIn;
    const SiteKind out = attention ? SiteKind::kAttnOut : SiteKind::kMlpOut;
    math.prepare(in);
    math.prepare(out);
    const at::Tensor inner =
        new_tensor<T>(hidden_TH.rows(), attention ? math.attention_width() : math.mlp_width());
    if (attention)
      math.attention(hidden_TH, view_of<T>(inner));
    else
      math.activation(hidden_TH, view_of<T>(inner));
    Matrix<float> output_TH(hidden_TH.rows(), hidden_TH.cols());
    math.add_output(out, view_of<T>(inner), output_TH);
    return output_TH;
  }

  template <typename T>
  void run_block_in(const BlockSpec& block, BlockWeights& weights, TorchHiddenStates& states,
                    BlockObserver* observer) {
    BlockPass<T> pass(block, weights, config_, options_.threads, states);
    if (observer == nullptr)
      pass.run();
    else
      pass.run_staged(*observer);
  }

  static void check_ids(MatrixView<const std::int32_t> ids_BS, std::span<const Index> lengths_B,
                        Index vocabulary) {
    if (static_cast<Index>(lengths_B.size()) != ids_BS.rows())
      throw Error(ErrorKind::kInternal, "",
                  fmt::format("{} lengths for {} sequences", lengths_B.size(), ids_BS.rows()));
    for (Index b = 0; b < ids_BS.rows(); ++b) {
      const Index length = lengths_B[static_cast<std::size_t>(b)];
      if (length < 0 || length > ids_BS.cols())
        throw Error(ErrorKind::kInternal, "",
                    fmt::format("length {} of sequence {} is not within the {} ids of a row",
                                length, b, ids_BS.cols()));
      for (Index s = 0; s < length; ++s)
        if (ids_BS(b, s) < 0 || ids_BS(b, s) >= vocabulary)
          throw Error(ErrorKind::kInput, "E167",
                      fmt::format("token id {} (sequence {}, position {}) is outside the model's "
                                  "vocabulary of {}; was the text tokenized for another model?",
                                  ids_BS(b, s), b, s, vocabulary));
    }
  }

  ModelConfig config_;
  RunnerOptions options_;
};

}  // namespace

extern "C" BlockRunner* calque_make_torch_runner(const ModelConfig& config,
                                                 const RunnerOptions& options) {
  return new TorchBlockRunner(config, options);
}

extern "C" const char* calque_describe_torch() { return "LibTorch " TORCH_VERSION; }

}  // namespace calque::model
