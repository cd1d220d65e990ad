#include "forward/cpu/cpu_runner.h"

#include <algorithm>
#include <optional>
#include <span>
#include <type_traits>
#include <vector>

#include "calque/core/finite.h"
#include "calque/core/onednn.h"
#include "calque/core/openmp.h"
#include "calque/core/parallel.h"
#include "calque/forward/not_finite.h"
#include "calque/forward/token_rows.h"
#include "forward/cpu/loops.h"
#include "forward/cpu/mixer.h"
#include "forward/kept_rows.h"

namespace calque::forward {
namespace {

NormWeight final_norm(const model::ModelConfig& config, MatrixView<const float> weight_1H) {
  return {weight_1H, config.norm_plus_one ? 1.0f : 0.0f, static_cast<float>(config.rms_norm_eps)};
}

// Final norm, output projection, and the cap of logits if there is one.
template <typename T>
class CpuHead : public Head {
 public:
  CpuHead(const model::ModelConfig& config, MatrixView<const float> norm_1H,
          MatrixView<const float> head_VH, const InputGrid* inputs);

  void logits(const HiddenStates& hidden, Index sequence, Index first,
              MatrixView<float> logits_TV) const override;

 private:
  void project(MatrixView<const T> normed_TH, MatrixView<float> logits_TV) const;

  Matrix<float> norm_1H_;
  Matrix<float> head_VH_;  // empty in bf16, where the linear has its own copy
  PreparedLinear<T> linear_;
  NormWeight norm_;
  float softcap_;
};

template <>
void CpuHead<float>::project(MatrixView<const float> normed_TH, MatrixView<float> logits_TV) const {
  linear_.apply(normed_TH, logits_TV);
}

template <>
void CpuHead<BFloat16>::project(MatrixView<const BFloat16> normed_TH,
                                MatrixView<float> logits_TV) const {
  auto rounded_TV = Matrix<BFloat16>::uninitialized(logits_TV.rows(), logits_TV.cols());
  linear_.apply(normed_TH, rounded_TV);
  loops().of_bfloat16.widen(rounded_TV.view(), logits_TV);
}

template <typename T>
CpuHead<T>::CpuHead(const model::ModelConfig& config, MatrixView<const float> norm_1H,
                    MatrixView<const float> head_VH, const InputGrid* inputs)
    : norm_1H_(Matrix<float>::copy_of(norm_1H)),
      head_VH_(std::is_same_v<T, float> ? Matrix<float>::copy_of(head_VH) : Matrix<float>()),
      linear_(std::is_same_v<T, float> ? head_VH_.view() : head_VH, {}, inputs),
      norm_(final_norm(config, norm_1H_)),
      softcap_(static_cast<float>(config.logit_softcap)) {}

template <typename T>
void CpuHead<T>::logits(const HiddenStates& hidden, Index sequence, Index first,
                        MatrixView<float> logits_TV) const {
  const OneOpenMpThread guard;
  const auto& states = dynamic_cast<const CpuStates&>(hidden);
  const MatrixView<const float> rows_TH =
      states.sequence_TH(sequence).rows(first, logits_TV.rows());
  auto normed_TH = Matrix<T>::uninitialized(rows_TH.rows(), rows_TH.cols());
  loops_of<T>().rms_norm(rows_TH, norm_, normed_TH);
  states.release(sequence, first, rows_TH.rows());
  project(normed_TH.view(), logits_TV);
  if (softcap_ != 0) loops().cap_logits(softcap_, logits_TV);
}

// The rounding of a block's keys and values; null if there is none.
const KvCacheRounding* cache_of(const model::BlockSpec& block, const RunnerOptions& options) {
  const KvCacheRounding* const cache = options.kv_cache.get();
  return cache != nullptr && cache->rounds(block.layer) ? cache : nullptr;
}

void write_rows(const SequenceRows<float>& rows, Index sequences, const io::ByteSink& sink) {
  for (Index b = 0; b < sequences; ++b) {
    const MatrixView<const float> values = rows.of(b);
    sink(std::as_bytes(std::span(values.data(), static_cast<std::size_t>(values.size()))));
    rows.release(b);
  }
}

void read_rows(const SequenceRows<float>& rows, Index sequences, const io::ByteSource& source) {
  for (Index b = 0; b < sequences; ++b) {
    const MatrixView<float> values = rows.of(b);
    source(
        std::as_writable_bytes(std::span(values.data(), static_cast<std::size_t>(values.size()))));
    rows.release(b);
  }
}

class CpuRunner : public BlockRunner {
 public:
  CpuRunner(const model::ModelConfig& config, const RunnerOptions& options)
      : config_(config), options_(options) {
    limit_onednn();
    if (options_.scratch == nullptr)
      options_.scratch = std::make_shared<io::ScratchSpace>(0, std::filesystem::path());
  }

  std::unique_ptr<HiddenStates> embed(MatrixView<const std::int32_t> ids_BS,
                                      std::span<const Index> lengths_B,
                                      MatrixView<const float> embedding_VH) override {
    check_ids(ids_BS, lengths_B, embedding_VH.rows());
    auto hidden = std::make_unique<CpuStates>(embedding_VH.cols(), lengths_B, *options_.scratch);
    const auto scale = static_cast<float>(config_.embedding_scale);
    parallel_for(hidden->sequences(), options_.threads, [&](Index b) {
      const MatrixView<float> rows_TH = hidden->sequence_TH(b);
      for (Index s = 0; s < rows_TH.rows(); ++s) {
        const float* const row = embedding_VH.row(ids_BS(b, s));
        for (Index i = 0; i < rows_TH.cols(); ++i) rows_TH(s, i) = scale * row[i];
      }
      hidden->release(b);
    });
    return hidden;
  }

  void run_block(const model::BlockSpec& block, model::BlockWeights& weights, HiddenStates& hidden,
                 BlockObserver* observer) override {
    auto& states = dynamic_cast<CpuStates&>(hidden);
    if (options_.dtype == ComputeDType::kBFloat16)
      run_block_in<BFloat16>(block, weights, states, observer);
    else
      run_block_in<float>(block, weights, states, observer);
  }

  void keep(HiddenStates& hidden, const model::KeptRows& rows, Index sequence,
            MatrixView<const float> values_TW) override {
    const SequenceRows<float>& kept = dynamic_cast<CpuStates&>(hidden).kept(rows);
    std::copy_n(values_TW.data(), values_TW.size(), kept.of(sequence).data());
    kept.release(sequence);
  }

  Matrix<float> half_output(const model::BlockSpec& block, const model::BlockWeights& weights,
                            const HiddenStates& hidden, std::size_t half,
                            Index sequence) const override {
    const auto& states = dynamic_cast<const CpuStates&>(hidden);
    return options_.dtype == ComputeDType::kBFloat16
               ? half_output_in<BFloat16>(block, weights, states, half, sequence)
               : half_output_in<float>(block, weights, states, half, sequence);
  }

  Matrix<float> head_input(MatrixView<const float> final_norm_1H, const HiddenStates& hidden,
                           Index sequence) const override {
    const auto& states = dynamic_cast<const CpuStates&>(hidden);
    const MatrixView<const float> rows_TH = states.sequence_TH(sequence);
    auto normed_TH = Matrix<float>::uninitialized(rows_TH.rows(), rows_TH.cols());
    loops().of_float.rms_norm(rows_TH, final_norm(config_, final_norm_1H), normed_TH);
    states.release(sequence);
    return normed_TH;
  }

  void save_states(const HiddenStates& hidden, const io::ByteSink& sink) const override {
    const auto& states = dynamic_cast<const CpuStates&>(hidden);
    write_rows(states.rows(), states.sequences(), sink);
    write_count(states.all_kept().size(), sink);
    for (const auto& [name, rows] : states.all_kept()) {
      write_kept({name, rows.all().cols()}, sink);
      write_rows(rows, states.sequences(), sink);
    }
  }

  std::unique_ptr<HiddenStates> load_states(std::span<const Index> lengths_B, Index width,
                                            const io::ByteSource& source) override {
    auto states = std::make_unique<CpuStates>(width, lengths_B, *options_.scratch);
    read_rows(states->rows(), states->sequences(), source);
    for (std::size_t left = read_count(source); left > 0; --left)
      read_rows(states->kept(read_kept(source)), states->sequences(), source);
    return states;
  }

  std::unique_ptr<Head> make_head(MatrixView<const float> final_norm_1H,
                                  MatrixView<const float> head_VH) override {
    const InputGrid* inputs = options_.inputs_of(config_.names.head + ".weight");
    if (options_.dtype == ComputeDType::kBFloat16)
      return std::make_unique<CpuHead<BFloat16>>(config_, final_norm_1H, head_VH, inputs);
    return std::make_unique<CpuHead<float>>(config_, final_norm_1H, head_VH, inputs);
  }

 private:
  template <typename T>
  Matrix<float> half_output_in(const model::BlockSpec& block, const model::BlockWeights& weights,
                               const CpuStates& states, std::size_t half, Index sequence) const {
    const OneOpenMpThread guard;
    WorkspacePool<T> workspaces;
    const auto mixer =
        make_cpu_mixer<T>({block, block.halves[half], weights, states, nullptr,
                           cache_of(block, options_), options_.inputs.get(), workspaces});
    mixer->prepare_all();
    const MatrixView<const float> hidden_TH = states.sequence_TH(sequence);
    Matrix<float> output_TH(hidden_TH.rows(), hidden_TH.cols());
    mixer->add(sequence, hidden_TH, output_TH);
    states.release(sequence);
    return output_TH;
  }

  template <typename T>
  void run_block_in(const model::BlockSpec& block, model::BlockWeights& weights, CpuStates& states,
                    BlockObserver* observer) {
    WorkspacePool<T> workspaces;
    std::vector<std::unique_ptr<CpuMixer<T>>> mixers;
    for (const model::HalfSpec& half : block.halves)
      mixers.push_back(
          make_cpu_mixer<T>({block, half, weights, states, &states, cache_of(block, options_),
                             options_.inputs.get(), workspaces, options_.threads}));
    if (observer == nullptr) {
      run_whole(block, weights, mixers, states);
      return require_finite(block, states);
    }
    for (std::size_t i = 0, end = 0; i < mixers.size(); i = end) {
      end = block.end_of_group(i);
      const bool last = end == mixers.size();
      std::optional<SequenceRows<float>> own;  // the sums of halves side by side
      if (end > i + 1) own = zeros(states);
      const SequenceRows<float>& sums = own ? *own : states.rows();
      for (std::size_t m = i; m < end; ++m) {
        StagedPass<T> pass(states, sums, *options_.scratch, options_.threads, *observer, weights,
                           workspaces, last);
        mixers[m]->run_staged(pass);
      }
      if (own && (!last || observer->wants_output()))
        parallel_for(states.sequences(), options_.threads, [&](Index s) {
          add_sum(block.halves[end - 1], weights, own->of(s), states.sequence_TH(s));
          own->release(s);
          states.release(s);
        });
    }
    if (!observer->wants_output()) return;
    parallel_for(states.sequences(), options_.threads, [&](Index s) {
      scale(block, weights, states.sequence_TH(s));
      states.release(s);
    });
    require_finite(block, states);
  }

  SequenceRows<float> zeros(const CpuStates& states) {
    SequenceRows<float> rows(*options_.scratch, states.firsts_B(), states.rows().all().cols());
    parallel_for(states.sequences(), options_.threads, [&](Index s) {
      std::fill_n(rows.of(s).data(), rows.of(s).size(), 0.0f);
      rows.release(s);
    });
    return rows;
  }

  // Adds what halves side by side left, the last of which is `half`; overwrites it.
  static void add_sum(const model::HalfSpec& half, const model::BlockWeights& weights,
                      MatrixView<float> sum_TH, MatrixView<float> hidden_TH) {
    if (half.sum_norm)
      loops().of_float.rms_norm(sum_TH, norm_weight(*half.sum_norm, weights), sum_TH);
    loops().of_float.add(sum_TH, hidden_TH);
  }

  static void scale(const model::BlockSpec& block, const model::BlockWeights& weights,
                    MatrixView<float> hidden_TH) {
    if (!block.scalar) return;
    const float factor = weights.at(block.scalar->name)(0, 0);
    for (Index i = 0; i < hidden_TH.size(); ++i) hidden_TH.data()[i] *= factor;
  }

  // Names the first sequence that is not finite, whichever thread sees one first.
  void require_finite(const model::BlockSpec& block, const CpuStates& states) const {
    std::vector<std::optional<std::size_t>> bad_S(static_cast<std::size_t>(states.sequences()));
    parallel_for(states.sequences(), options_.threads, [&](Index s) {
      const MatrixView<const float> hidden_TH = states.sequence_TH(s);
      bad_S[static_cast<std::size_t>(s)] = first_nonfinite(
          std::as_bytes(std::span(hidden_TH.data(), static_cast<std::size_t>(hidden_TH.size()))),
          DType::kF32);
      states.release(s);
    });
    for (std::size_t s = 0; s < bad_S.size(); ++s) {
      if (!bad_S[s]) continue;
      const MatrixView<const float> hidden_TH = states.sequence_TH(static_cast<Index>(s));
      throw_output_not_finite(block, states.first_sequence + static_cast<Index>(s),
                              static_cast<Index>(*bad_S[s]) / hidden_TH.cols(),
                              hidden_TH.data()[*bad_S[s]], options_.dtype);
    }
  }

  // Every sequence in one piece.
  template <typename T>
  void run_whole(const model::BlockSpec& block, const model::BlockWeights& weights,
                 const std::vector<std::unique_ptr<CpuMixer<T>>>& mixers, CpuStates& states) {
    for (const auto& mixer : mixers) mixer->prepare_all();
    parallel_for(states.sequences(), options_.threads, [&](Index s) {
      const MatrixView<float> hidden_TH = states.sequence_TH(s);
      if (hidden_TH.rows() == 0) return;
      for (std::size_t i = 0, end = 0; i < mixers.size(); i = end) {
        end = block.end_of_group(i);
        if (end == i + 1) {
          mixers[i]->add(s, hidden_TH, hidden_TH);
          continue;
        }
        Matrix<float> sum_TH(hidden_TH.rows(), hidden_TH.cols());
        for (std::size_t m = i; m < end; ++m) mixers[m]->add(s, hidden_TH, sum_TH);
        add_sum(block.halves[end - 1], weights, sum_TH.view(), hidden_TH);
      }
      scale(block, weights, hidden_TH);
      states.release(s);
    });
  }

  model::ModelConfig config_;
  RunnerOptions options_;
};

}  // namespace

std::unique_ptr<BlockRunner> make_cpu_runner(const model::ModelConfig& config,
                                             const RunnerOptions& options) {
  return std::make_unique<CpuRunner>(config, options);
}

}  // namespace calque::forward
