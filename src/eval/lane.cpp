#include "eval/lane.h"

#include "calque/forward/token_rows.h"

namespace calque::eval {
void Lane::start(const EvalModel& source, const forward::RunnerOptions& common) {
  model = &source;
  options = common;
  if (source.dtype) options.dtype = *source.dtype;
  family = model::family_of(*source.config);
  options.kv_cache = source.own_kv_cache;
  if (source.kv_cache) options.kv_cache = make_kv_cache_rounding(*source.kv_cache, family);
  options.inputs = source.inputs;
  runner = forward::make_block_runner(*source.config, options);
}

void Lane::embed(const text::TokenBlocks& rows) {
  running = forward::embed_tokens(*runner, *model->weights, family, rows.ids_BS, rows.lengths_B);
}

}  // namespace calque::eval
