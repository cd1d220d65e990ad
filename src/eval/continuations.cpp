#include "calque/eval/continuations.h"

#include <algorithm>
#include <map>
#include <utility>

#include "eval/lanes.h"

namespace calque::eval {
namespace {

// The rows of one pass: as many as there are until they hold the pass's tokens.
struct Rows {
  std::vector<const text::TokenIds*> tokens;

  text::TokenBlocks blocks() const {
    std::size_t longest = 1;
    for (const text::TokenIds* row : tokens) longest = std::max(longest, row->size());
    text::TokenBlocks blocks;
    blocks.ids_BS =
        Matrix<std::int32_t>(static_cast<Index>(tokens.size()), static_cast<Index>(longest));
    for (std::size_t b = 0; b < tokens.size(); ++b) {
      std::copy(tokens[b]->begin(), tokens[b]->end(), blocks.ids_BS.row(static_cast<Index>(b)));
      blocks.lengths_B.push_back(static_cast<std::int64_t>(tokens[b]->size()));
    }
    return blocks;
  }
};

// The tokens that the models read for a continuation: all but its last token, which is only
// predicted.
text::TokenIds read_for(const Continuation& continuation) {
  text::TokenIds ids = continuation.before;
  ids.insert(ids.end(), continuation.tokens.begin(), continuation.tokens.end() - 1);
  return ids;
}

// One pass over the blocks for some of the continuations.
struct ContinuationPass {
  std::map<text::TokenIds, Index> rows;  // tokens that are read; rows in the order of first use
  std::vector<ScoredSpan> spans;         // one a continuation
  std::vector<std::string> names;        // one a row
  Index tokens = 0;

  void add(const Continuation& continuation) {
    text::TokenIds ids = read_for(continuation);
    const auto length = static_cast<Index>(ids.size());
    const auto [row, is_new] = rows.emplace(std::move(ids), static_cast<Index>(rows.size()));
    if (is_new) {
      tokens += length;
      names.push_back(continuation.name);
    }
    spans.push_back(
        {row->second, static_cast<Index>(continuation.before.size()) - 1, continuation.tokens});
  }

  text::TokenBlocks blocks() const {
    Rows in_order{std::vector<const text::TokenIds*>(rows.size())};
    for (const auto& [ids, row] : rows) in_order.tokens[static_cast<std::size_t>(row)] = &ids;
    return in_order.blocks();
  }
};

std::vector<ContinuationPass> passes_of(std::span<const Continuation> continuations,
                                        Index tokens_a_pass) {
  std::vector<ContinuationPass> passes;
  for (const Continuation& continuation : continuations) {
    const auto length =
        static_cast<Index>(continuation.before.size() + continuation.tokens.size()) - 1;
    if (passes.empty() || passes.back().tokens + length > tokens_a_pass) passes.emplace_back();
    passes.back().add(continuation);
  }
  return passes;
}

void check_tokens(const EvalModel& model, const text::TokenIds& ids, const std::string& name) {
  for (const std::int32_t id : ids) check_id(id, model, name);
}

// Scores of a lane's continuations, from the predictions of their tokens in order.
void append_scores(const Lane& lane, const std::vector<ScoredSpan>& spans,
                   std::vector<ContinuationScore>& scores) {
  std::size_t slot = 0;
  for (const ScoredSpan& span : spans) {
    ContinuationScore score{0, true};
    for (const std::int32_t token : span.following) {
      const Prediction& prediction = lane.predictions[slot++];
      score.log_likelihood -= prediction.nll;
      score.greedy = score.greedy && prediction.arg_max == token;
    }
    scores.push_back(score);
  }
}

// Reports the steps of several evaluations as those of one.
EvalOptions counting_on(const EvalOptions& options, Index before) {
  EvalOptions result = options;
  if (options.progress)
    result.progress = [&options, before](Index done, Index total) {
      options.progress(before + done, before + total);
    };
  return result;
}

Index steps_of(const EvalModel& model) { return model.config->num_layers + 1; }

// Prompts whose sequences, as long as they may become, are one pass.
std::vector<std::vector<std::size_t>> batches_of(std::span<const Prompt> prompts,
                                                 const GreedyOptions& options) {
  std::vector<std::vector<std::size_t>> batches;
  Index tokens = 0;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    const Index length = static_cast<Index>(prompts[i].tokens.size()) + options.max_new_tokens - 1;
    if (batches.empty() || tokens + length > options.pass.tokens_a_pass) {
      batches.emplace_back();
      tokens = 0;
    }
    batches.back().push_back(i);
    tokens += length;
  }
  return batches;
}

// One model's sequences while it writes them.
class Writer {
 public:
  Writer(const EvalModel& model, std::span<const Prompt> prompts, const GreedyOptions& options,
         Index steps_before)
      : model_(model), prompts_(prompts), options_(options), steps_(steps_before) {
    for (const Prompt& prompt : prompts) sequences_.push_back(prompt.tokens);
    written_.resize(prompts.size());
  }

  std::vector<text::TokenIds> run() {
    for (std::vector<std::size_t>& batch : batches_of(prompts_, options_)) write(std::move(batch));
    return std::move(written_);
  }

 private:
  void write(std::vector<std::size_t> open) {
    for (Index step = 0; step < options_.max_new_tokens && !open.empty(); ++step) {
      const std::vector<std::int32_t> next = next_tokens(open);
      std::vector<std::size_t> still;
      for (std::size_t k = 0; k < open.size(); ++k) {
        const std::size_t i = open[k];
        sequences_[i].push_back(next[k]);
        written_[i].push_back(next[k]);
        if (!options_.ended || !options_.ended(static_cast<Index>(i), written_[i]))
          still.push_back(i);
      }
      open = std::move(still);
    }
  }

  std::vector<std::int32_t> next_tokens(const std::vector<std::size_t>& open) {
    Rows rows;
    std::vector<ScoredSpan> spans;
    for (const std::size_t i : open) {
      spans.push_back({static_cast<Index>(rows.tokens.size()),
                       static_cast<Index>(sequences_[i].size()) - 1,
                       {-1}});
      rows.tokens.push_back(&sequences_[i]);
    }
    const text::TokenBlocks blocks = rows.blocks();
    EvalOptions options = counting_on(options_.pass.eval, steps_);
    options.reference_states = nullptr;  // rows of a step never come again
    const std::vector<EvalModel> none;
    Lanes lanes(model_, none, blocks, options);
    lanes.run_blocks();
    lanes.score(spans,
                [&](Index row) { return prompts_[open[static_cast<std::size_t>(row)]].name; });
    steps_ += steps_of(model_);
    std::vector<std::int32_t> next;
    for (const Prediction& prediction : lanes.lanes().front().predictions)
      next.push_back(prediction.arg_max);
    return next;
  }

  const EvalModel& model_;
  std::span<const Prompt> prompts_;
  const GreedyOptions& options_;
  Index steps_;
  std::vector<text::TokenIds> sequences_;
  std::vector<text::TokenIds> written_;
};

}  // namespace

std::vector<std::vector<ContinuationScore>> score_continuations(
    const EvalModel& reference, const std::vector<EvalModel>& candidates,
    std::span<const Continuation> continuations, const PassOptions& options) {
  check_vocabularies(reference, candidates);
  for (const Continuation& continuation : continuations) {
    check_tokens(reference, continuation.before, continuation.name);
    check_tokens(reference, continuation.tokens, continuation.name);
  }
  std::vector<std::vector<ContinuationScore>> scores(1 + candidates.size());
  Index steps = 0;
  for (const ContinuationPass& pass : passes_of(continuations, options.tokens_a_pass)) {
    const text::TokenBlocks blocks = pass.blocks();
    const EvalOptions counting = counting_on(options.eval, steps);
    Lanes lanes(reference, candidates, blocks, counting);
    lanes.run_blocks();
    lanes.score(pass.spans, [&](Index row) { return pass.names[static_cast<std::size_t>(row)]; });
    for (std::size_t m = 0; m < scores.size(); ++m)
      append_scores(lanes.lanes()[m], pass.spans, scores[m]);
    steps += lanes.steps();
  }
  return scores;
}

Index continuation_passes(std::span<const Continuation> continuations, Index tokens_a_pass) {
  return static_cast<Index>(passes_of(continuations, tokens_a_pass).size());
}

Index greedy_passes(std::span<const Prompt> prompts, const GreedyOptions& options) {
  return static_cast<Index>(batches_of(prompts, options).size()) * options.max_new_tokens;
}

std::vector<std::vector<text::TokenIds>> write_greedily(const EvalModel& reference,
                                                        const std::vector<EvalModel>& candidates,
                                                        std::span<const Prompt> prompts,
                                                        const GreedyOptions& options) {
  check_vocabularies(reference, candidates);
  for (const Prompt& prompt : prompts) check_tokens(reference, prompt.tokens, prompt.name);
  std::vector<std::vector<text::TokenIds>> written;
  Index steps = 0;
  for (std::size_t m = 0; m < 1 + candidates.size(); ++m) {
    const EvalModel& model = m == 0 ? reference : candidates[m - 1];
    written.push_back(Writer(model, prompts, options, steps).run());
    steps += steps_of(model) * greedy_passes(prompts, options);
  }
  return written;
}

}  // namespace calque::eval
