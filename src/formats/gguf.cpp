// GGUF's row in the table of formats.
#include "formats/gguf.h"

namespace calque::formats {

const Format& gguf_format() {
  static const Format row = {
      .name = "gguf",
      .summary = "one file, or shards, for llama.cpp: its block types and mixes, F16, BF16, F32",
      .label = "GGUF",
      .short_label = "GGUF",
      .is_folder = false,
      .has_block_types = true,
      .run_command = "llama-cli -m {} -p \"Once upon a time\"",
      .check = check_gguf,
      .planner = gguf_planner,
      .remarks = gguf_remarks,
      .open = open_gguf_writer,
      .files = gguf_files};
  return row;
}

}  // namespace calque::formats
