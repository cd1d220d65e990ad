#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <memory>
#include <string>

#include "calque/core/error.h"
#include "calque/io/hub_cache.h"
#include "calque/io/json.h"
#include "calque/io/text_lines.h"
#include "calque/text/corpus.h"
#include "calque/text/tokenizer.h"
#include "cli/commands.h"
#include "cli/units.h"

namespace calque::cli {
namespace {

constexpr std::size_t kShown = 16;

struct TokenizeArguments {
  std::string tokenizer;
  std::string file;
  std::string string;
  bool special = false;
  bool add_special = false;
  bool render = false;
  text::ChatSettings chat;
  bool json = false;
};

text::TokenIds ids_of(const TokenizeArguments& arguments, const text::Tokenizer& tokenizer,
                      const std::string& input) {
  text::TokenIds ids = tokenizer.encode(input, arguments.special);
  if (!arguments.add_special) return ids;
  const text::TokenIds prefix = tokenizer.prefix();
  const text::TokenIds suffix = tokenizer.suffix();
  ids.insert(ids.begin(), prefix.begin(), prefix.end());
  ids.insert(ids.end(), suffix.begin(), suffix.end());
  return ids;
}

// A file may hold millions of ids: shows their number and the first ones. A string: every id with
// its token.
std::string ids_text(const text::TokenIds& ids, const text::Tokenizer& tokenizer, bool all) {
  const std::size_t shown = all ? ids.size() : std::min(ids.size(), kShown);
  std::string text = fmt::format("{}\n{} tokens\n", printable(tokenizer.description()), ids.size());
  if (shown < ids.size())
    return text +
           fmt::format("first ids: {} ...\n", fmt::join(ids.begin(), ids.begin() + kShown, " "));
  for (const std::int32_t id : ids)
    text += fmt::format("{:>8}  {}\n", id, printable(tokenizer.token(id)));
  return text;
}

// The texts that a job would make of the file, each followed by a line end.
void render(const TokenizeArguments& arguments) {
  if (arguments.file.empty())
    throw Error(ErrorKind::kConfig, "E001", "--render shows the texts of a file: give --text FILE");
  const std::vector<std::string> texts =
      text::texts_of({.path = arguments.file, .chat = arguments.chat}, arguments.tokenizer);
  if (arguments.json) return fmt::print("{}\n", io::Json(texts).dump());
  for (const std::string& one : texts) fmt::print("{}\n", one);
}

void tokenize(const TokenizeArguments& arguments) {
  if (arguments.render) return render(arguments);
  const auto tokenizer = text::load_tokenizer(arguments.tokenizer);
  const bool from_file = !arguments.file.empty();
  const std::string input = from_file ? io::read_text(arguments.file) : arguments.string;
  const text::TokenIds ids = ids_of(arguments, *tokenizer, input);
  if (arguments.json)
    fmt::print("{}\n", io::Json(ids).dump());
  else
    fmt::print("{}", ids_text(ids, *tokenizer, !from_file));
}

}  // namespace

Command tokenize_command(const CommandContext&) {
  const auto a = std::make_shared<TokenizeArguments>();
  return {"tokenize",
          "Print the token ids of a text.",
          {Option{"--tokenizer", &a->tokenizer,
                  "Folder with tokenizer.json or tokenizer.model, or a GGUF file."}
               .required()
               .model(),
           Option{"--text", &a->file,
                  "Text file (also .gz, .zst); prints the number of ids and the first ones."}
               .alternative()
               .path(),
           Option{"--string", &a->string, "The text itself; prints every id."}.alternative(),
           {"--special", &a->special, "Treat text that spells a special token as that token."},
           {"--add-special", &a->add_special,
            "Include the tokens that the tokenizer puts around a sequence (BOS, EOS)."},
           {"--render", &a->render,
            "Print the texts of a .jsonl or .json file instead: conversations as the chat template "
            "of the model makes them."},
           {"--chat-template", &a->chat.name, "Name of one of the model's chat templates."},
           json_option(a->json, "Print all ids (--render: all texts) as a JSON array.")},
          "  calque tokenize --tokenizer tests/models/demo --string \"Once upon a time\"\n"
          "  calque tokenize --tokenizer tests/models/demo --text book.txt --json\n"
          "  calque tokenize --tokenizer Qwen3-8B --text chat.jsonl --render",
          [a] {
            a->tokenizer = io::path_of_model(a->tokenizer).string();
            tokenize(*a);
          }};
}

}  // namespace calque::cli
