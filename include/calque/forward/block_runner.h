#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "calque/core/device_rows.h"
#include "calque/core/dtype.h"
#include "calque/core/input_grid.h"
#include "calque/core/matrix.h"
#include "calque/forward/kv_cache.h"
#include "calque/io/scratch.h"
#include "calque/io/state_file.h"
#include "calque/model/family.h"
#include "calque/model/weight_source.h"

namespace calque::forward {

// Rows of activations in the precision the forward pass computes in; exactly one of the three is
// set.
struct ActivationView {
  MatrixView<const float> f32_TK;
  MatrixView<const BFloat16> bf16_TK;
  DeviceRows device_TK;  // a forward pass on a GPU gives these
  // Rows on the host of a site that only some tokens are routed to: the places of these tokens
  // among those of all sequences, ascending. Empty where all tokens arrive, one after the other.
  std::span<const Index> tokens = {};

  bool is_bf16() const { return bf16_TK.data() != nullptr; }
  bool on_device() const { return device_TK.data != nullptr; }
  Index rows() const {
    return on_device() ? device_TK.rows : is_bf16() ? bf16_TK.rows() : f32_TK.rows();
  }
  Index cols() const {
    return on_device() ? device_TK.cols : is_bf16() ? bf16_TK.cols() : f32_TK.cols();
  }
};

// Watches a block being run and may change it on the way (staged execution: a linear runs once,
// with the weights it will ship with).
class BlockObserver {
 public:
  virtual ~BlockObserver() = default;
  // The input of `site`, some rows at a time, always in the order of the sequences; padding rows
  // are left out. Called from one thread; the view lives until the call returns.
  virtual void site_input(const model::SiteSpec& site, const ActivationView& inputs_TK) = 0;
  // All of the site's inputs have been seen and none of its readers has run: their weights (and
  // only theirs) may be replaced now. An expert that no token was sent to has seen no inputs.
  virtual void site_ready(const model::SiteSpec& site, model::BlockWeights& weights) = 0;
  // True if anything reads the hidden states after this block. If not, run_block may skip what
  // comes after the last site and leaves them undefined.
  virtual bool wants_output() const { return true; }
};

// Hidden states of a set of token rows between blocks; made by BlockRunner::embed.
class HiddenStates {
 public:
  virtual ~HiddenStates() = default;
  virtual Index sequences() const = 0;
  virtual Index length(Index sequence) const = 0;  // real tokens

  Index first_sequence = 0;  // number of the first one, for messages: set where states are a batch
};

// Final norm and output projection, ready to be applied to many rows.
class Head {
 public:
  virtual ~Head() = default;
  // Logits of positions [first, first + logits_TV.rows()) of one sequence, in fp32. Thread-safe.
  virtual void logits(const HiddenStates& hidden, Index sequence, Index first,
                      MatrixView<float> logits_TV) const = 0;
};

enum class ComputeDType {
  kFloat32,
  kBFloat16,  // linears in bf16 with fp32 sums; residual stream, norms and attention in fp32
};

struct RunnerOptions {
  ComputeDType dtype = ComputeDType::kFloat32;
  int threads = 0;  // 0: all the process may use
  // "cpu": calque's own arithmetic; "cuda:N": LibTorch's operators on that GPU, hidden states
  // staying there; "tensors": the same operators on the CPU, so that the GPU's path can be tested.
  std::string device = "cpu";
  // Holds hidden states and the inputs of a block's later stages (device "cpu"); null: they are in
  // memory.
  std::shared_ptr<io::ScratchSpace> scratch;
  // Device "cuda:N": observers are handed copies on the host instead of DeviceRows.
  bool host_views = false;
  // Keys and values go through it before attention uses them; null: they stay as computed.
  std::shared_ptr<const KvCacheRounding> kv_cache = nullptr;
  // Linears whose inputs are rounded as a server would (input_rounding.h); null: none.
  std::shared_ptr<const InputGrids> inputs = nullptr;

  const InputGrid* inputs_of(std::string_view weight) const {
    return find_inputs(inputs.get(), weight);
  }
};

// Runs a model one block at a time: only that block's weights need to be in memory. Sequences are
// independent and each is computed by one thread, so results do not depend on `threads`.
class BlockRunner {
 public:
  virtual ~BlockRunner() = default;

  // Row b of ids_BS has lengths_B[b] real tokens. Ids must be below the embedding's rows.
  virtual std::unique_ptr<HiddenStates> embed(MatrixView<const std::int32_t> ids_BS,
                                              std::span<const Index> lengths_B,
                                              MatrixView<const float> embedding_VH) = 0;
  // Puts rows for blocks to come under a name, `sequence` by sequence: values_TW has the sequence's
  // length and the rows' width, and no gaps.
  virtual void keep(HiddenStates& hidden, const model::KeptRows& rows, Index sequence,
                    MatrixView<const float> values_TW) = 0;
  // Replaces `hidden` by the block's output; Error(kNumerical, "E403") naming block, sequence and
  // token if that is not finite. With an observer the block is cut at its sites (inputs
  // of the later stages are kept for all rows); without one, each sequence goes through in one
  // piece.
  virtual void run_block(const model::BlockSpec& block, model::BlockWeights& weights,
                         HiddenStates& hidden, BlockObserver* observer) = 0;
  // Returns what one half of the block (its index) would add to the hidden states of `sequence`,
  // fp32, one row a token; `hidden` is what that half starts from and stays as it is. May be called
  // from an observer's site_ready of the half's first site.
  virtual Matrix<float> half_output(const model::BlockSpec& block,
                                    const model::BlockWeights& weights, const HiddenStates& hidden,
                                    std::size_t half, Index sequence) const = 0;
  // Returns the input of the output projection, the hidden states of `sequence` under the final
  // norm: fp32, one row a token.
  virtual Matrix<float> head_input(MatrixView<const float> final_norm_1H,
                                   const HiddenStates& hidden, Index sequence) const = 0;
  // The bits of the hidden states of all sequences and of what mixers keep for later blocks
  // (model::KeptRows), and hidden states of `width` channels with the bits that an earlier process
  // saved.
  virtual void save_states(const HiddenStates& hidden, const io::ByteSink& sink) const = 0;
  virtual std::unique_ptr<HiddenStates> load_states(std::span<const Index> lengths_B, Index width,
                                                    const io::ByteSource& source) = 0;
  // Copies both.
  virtual std::unique_ptr<Head> make_head(MatrixView<const float> final_norm_1H,
                                          MatrixView<const float> head_VH) = 0;
};

// `dtype` from its name in the job file. "auto": bfloat16 where the processor has tiles for it
// (AMX), else float32: with AVX512_BF16 alone bf16 is the slower one (measured on a Xeon with
// oneDNN 2.6: 83 GFLOP/s a core against 160 in fp32). Error(kConfig) for another name.
ComputeDType compute_dtype_from(const std::string& name);
std::string_view name_of(ComputeDType dtype);

// The runner of options.device. Those of other devices than "cpu" are LibTorch's, a plug-in
// (libcalque_torch.so) that is loaded on the first call. Error(kConfig, "E165") if this build has
// none, or it cannot be loaded, with the reason.
std::unique_ptr<BlockRunner> make_block_runner(const model::ModelConfig& config,
                                               const RunnerOptions& options);

// "cpu: oneDNN; GPUs: LibTorch 1.13.1", or why there is none: for `calque doctor`.
std::string block_runner_description();

// GPUs that LibTorch can use, cuda:0 on; 0 without LibTorch or where it has no CUDA.
int runner_gpus();

}  // namespace calque::forward
