#include "calque/core/error.h"
#include "calque/text/chat_template.h"
#include "fuzz/fuzz_input.h"
#include "text/unicode.h"

namespace {

using calque::io::Json;

const Json& conversation() {
  static const Json variables = {
      {"messages", Json::array({Json{{"role", "system"}, {"content", "Be kind."}},
                                Json{{"role", "user"}, {"content", "2 + 2?"}},
                                Json{{"role", "assistant"}, {"content", nullptr}}})},
      {"tools", Json::array({Json{{"function", {{"name", "add"}, {"strict", true}}}}})},
      {"bos_token", "<s>"},
      {"eos_token", "</s>"},
      {"add_generation_prompt", false}};
  return variables;
}

}  // namespace

// Any bytes, read as a template, are valid UTF-8 text or Error(kInput).
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const calque::text::ChatTemplate chat(calque::testing::text_of(data, size), "fuzz");
    if (!calque::text::is_valid_utf8(chat.render(conversation()))) abort();
  } catch (const calque::Error& error) {
    if (error.kind() != calque::ErrorKind::kInput) abort();
  }
  return 0;
}
