#include "calque/calib/collect_imatrix.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <span>

#include "calque/calib/collect_squares.h"
#include "calque/calib/importance.h"
#include "calque/core/error.h"
#include "calque/core/parallel.h"
#include "calque/core/stopwatch.h"
#include "calque/formats/source.h"
#include "calque/forward/block_runner.h"
#include "calque/forward/not_finite.h"
#include "calque/forward/token_rows.h"
#include "calque/io/text_lines.h"
#include "calque/text/tokenizer.h"

namespace calque::calib {
namespace {

// Token ids as llama.cpp computes them: drops one newline at the end of the file and adds the
// tokenizer's prefix and suffix.
text::TokenIds ids_of(const std::filesystem::path& path, const text::Tokenizer& tokenizer,
                      bool parse_special) {
  std::string content = io::read_text(path);
  if (content.ends_with('\n')) content.pop_back();
  text::TokenIds ids = tokenizer.prefix();
  const text::TokenIds inside = tokenizer.encode(content, parse_special);
  const text::TokenIds suffix = tokenizer.suffix();
  ids.insert(ids.end(), inside.begin(), inside.end());
  ids.insert(ids.end(), suffix.begin(), suffix.end());
  return ids;
}

// The number of chunks to measure; Error(kInput, "E201") if the text has not even one.
Index chunk_count(const std::filesystem::path& path, Index tokens, const ImatrixRequest& request) {
  const Index available = tokens / request.chunk_size;
  if (available == 0)
    throw Error(ErrorKind::kInput, "E201",
                fmt::format("{}: gives {} tokens, not one chunk of {}; use a longer text, or a "
                            "smaller chunk size",
                            path.string(), tokens, request.chunk_size));
  return request.chunks > 0 ? std::min(request.chunks, available) : available;
}

// Adds up squares at the sites of one block as batches of rows pass by.
class BlockSums : public forward::BlockObserver {
 public:
  BlockSums(const model::BlockSpec& block, bool wants_output)
      : block_(block), wants_output_(wants_output) {}
  void site_input(const model::SiteSpec& site, const forward::ActivationView& inputs_TK) override {
    if (site.readers.empty()) return;
    sums_.try_emplace(&site, site.features()).first->second.add(inputs_TK);
  }
  void site_ready(const model::SiteSpec&, model::BlockWeights&) override {}
  bool wants_output() const override { return wants_output_; }

  // `lengths_B`: all sequences', which came batch after batch.
  void move_to(io::Imatrix& imatrix, std::span<const Index> lengths_B,
               forward::ComputeDType dtype) const {
    for (const model::SiteSpec& site : block_.sites) {
      const auto found = sums_.find(&site);
      if (found == sums_.end()) {
        add_to_imatrix(site, {}, 0, imatrix);
        continue;
      }
      const SquareCollector& seen = found->second;
      if (seen.first_nonfinite_token() >= 0)
        forward::throw_input_not_finite(block_, site, seen.first_nonfinite_token(), lengths_B,
                                        dtype);
      add_to_imatrix(site, seen.sums_K(), seen.tokens(), imatrix);
    }
  }

 private:
  const model::BlockSpec& block_;
  bool wants_output_;
  std::map<const model::SiteSpec*, SquareCollector> sums_;
};

// Sends the chunks through a block in batches: the data kept between the stages of a block is
// several times as wide as the hidden states. Each sequence is processed by one thread.
class Collection {
 public:
  Collection(const ImatrixRequest& request, const formats::SourceModel& source,
             record::Observer& observer)
      : request_(request),
        source_(source),
        observer_(observer),
        runner_(forward::make_block_runner(
            source.family.config, {.dtype = forward::compute_dtype_from(request.forward_dtype),
                                   .threads = request.threads})) {}

  void embed(const text::TokenBlocks& chunks) {
    constexpr Index kSequencesAThread = 4;
    const int threads = request_.threads > 0 ? request_.threads : available_threads();
    const Index batch = kSequencesAThread * threads;
    const model::TensorSpec& embedding = source_.family.embedding;
    const forward::TokenRows tokens =
        forward::token_rows(chunks.ids_BS, chunks.lengths_B, embedding.shape[0]);
    const Matrix<float> rows_UH =
        forward::embedding_rows(*source_.weights, embedding, tokens.rows_U);
    for (Index first = 0; first < chunks.rows(); first += batch) {
      const Index rows = std::min(batch, chunks.rows() - first);
      const std::span<const std::int64_t> lengths(chunks.lengths_B.data() + first,
                                                  static_cast<std::size_t>(rows));
      lengths_B_.insert(lengths_B_.end(), lengths.begin(), lengths.end());
      batches_.push_back(forward::embed_rows(*runner_, *source_.weights, source_.family,
                                             tokens.rows_U, rows_UH,
                                             tokens.ids_BS.view().rows(first, rows), lengths));
      batches_.back()->first_sequence = first;
    }
  }

  void run_block(const model::BlockSpec& block, io::Imatrix& imatrix) {
    const Stopwatch watch;
    model::BlockWeights weights = model::load_block(*source_.weights, block);
    BlockSums sums(block, request_.process_output || !source_.family.is_last(block));
    for (const auto& hidden : batches_) runner_->run_block(block, weights, *hidden, &sums);
    sums.move_to(imatrix, lengths_B_, forward::compute_dtype_from(request_.forward_dtype));
    observer_.block_done(block.layer, static_cast<Index>(source_.family.blocks.size()),
                         watch.seconds());
  }

  void measure_output(io::Imatrix& imatrix) const {
    const std::string& norm = source_.family.final_norm.name;
    const Matrix<float> norm_1H = source_.weights->load(norm);
    model::require_finite(norm, norm_1H);
    SquareCollector sums(source_.family.config.hidden_size);
    for (const auto& hidden : batches_)
      for (Index sequence = 0; sequence < hidden->sequences(); ++sequence)
        sums.add({runner_->head_input(norm_1H, *hidden, sequence).view(), {}, {}});
    if (sums.first_nonfinite_token() >= 0)
      forward::throw_not_finite(
          fmt::format("token {} of all is not finite after {}", sums.first_nonfinite_token(), norm),
          forward::compute_dtype_from(request_.forward_dtype));
    io::ImatrixEntry& entry = imatrix.entries[source_.family.head().gguf_name];
    entry.sums = sums.sums_K();
    entry.counts = {static_cast<double>(sums.tokens())};
  }

 private:
  const ImatrixRequest& request_;
  const formats::SourceModel& source_;
  record::Observer& observer_;
  std::unique_ptr<forward::BlockRunner> runner_;
  std::vector<std::unique_ptr<forward::HiddenStates>> batches_;
  std::vector<Index> lengths_B_;
};

void check(const ImatrixRequest& request, const model::ModelConfig& config) {
  if (request.texts.empty())
    throw Error(ErrorKind::kConfig, "", "no text is given to measure the model's inputs on");
  if (request.chunk_size < 2)
    throw Error(ErrorKind::kConfig, "",
                fmt::format("a chunk of {} tokens is too short", request.chunk_size));
  if (config.max_positions > 0 && request.chunk_size > config.max_positions)
    throw Error(ErrorKind::kConfig, "E207",
                fmt::format("the chunk size is {}, but the model was made for at most {} positions "
                            "(max_position_embeddings). Use chunks of {}",
                            request.chunk_size, config.max_positions, config.max_positions));
}

}  // namespace

text::TokenBlocks imatrix_chunks(const ImatrixRequest& request, const text::Tokenizer& tokenizer) {
  text::TokenIds kept;
  for (const std::filesystem::path& path : request.texts) {
    const text::TokenIds ids = ids_of(path, tokenizer, request.parse_special);
    const Index count = chunk_count(path, static_cast<Index>(ids.size()), request);
    kept.insert(kept.end(), ids.begin(), ids.begin() + count * request.chunk_size);
  }
  const Index rows = static_cast<Index>(kept.size()) / request.chunk_size;
  const MatrixView<const std::int32_t> kept_BS(kept.data(), rows, request.chunk_size);
  text::TokenBlocks blocks;
  blocks.ids_BS = Matrix<std::int32_t>::copy_of(kept_BS);
  blocks.lengths_B.assign(static_cast<std::size_t>(rows), request.chunk_size);
  const text::TokenIds prefix = tokenizer.prefix();
  if (!prefix.empty())
    for (Index b = 0; b < rows; ++b) blocks.ids_BS(b, 0) = prefix.front();
  return blocks;
}

io::Imatrix collect_imatrix(const ImatrixRequest& request, record::Observer& observer) {
  const formats::SourceModel source(request.model,
                                    /*allow_requantize=*/true);  // nothing is quantized
  check(request, source.family.config);
  check_has_gguf_names(source.family);
  const text::TokenBlocks chunks = imatrix_chunks(request, *text::load_tokenizer(request.model));
  io::Imatrix imatrix;
  imatrix.chunks = chunks.rows();
  imatrix.chunk_size = request.chunk_size;
  for (const std::filesystem::path& path : request.texts)
    imatrix.datasets.push_back(path.filename().string());

  observer.phase_started(
      fmt::format("measure {} chunks of {} tokens", chunks.rows(), request.chunk_size),
      static_cast<Index>(source.family.blocks.size()));
  Collection collection(request, source, observer);
  collection.embed(chunks);
  for (const model::BlockSpec& block : source.family.blocks)
    with_context(block.name, [&] { collection.run_block(block, imatrix); });
  if (request.process_output) collection.measure_output(imatrix);
  return imatrix;
}

}  // namespace calque::calib
