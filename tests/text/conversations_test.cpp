// Conversations of a corpus as the model's own template writes them. Texts and ids of whole rows
// are those of transformers' apply_chat_template (tests/fixtures/chat/make_expected.py).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "calque/io/file.h"
#include "calque/text/corpus.h"
#include "text/support.h"

namespace calque::text {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kPlain =
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{{ eos_token "
    "}}";

// A model folder: SmolLM2's tokenizer with a template of the test's.
class ChatData : public ::testing::Test {
 protected:
  ChatData() {
    for (const char* name : {"tokenizer.json", "tokenizer_config.json"})
      folder_.copy_from(tokenizer_fixture("smollm2") / name);
    use(kPlain);
  }
  void use(const std::string& source) { folder_.write("chat_template.jinja", source); }
  std::filesystem::path model() const { return folder_.path(); }

  TextSource source(const std::string& lines, const std::string& name = "chat.jsonl") const {
    TextSource s;
    s.path = folder_.write(name, lines);
    return s;
  }
  std::vector<std::string> texts(const std::string& lines,
                                 const std::string& name = "chat.jsonl") const {
    return texts_of(source(lines, name), model());
  }
  std::string error(const std::string& lines) const {
    return error_of([&] { texts(lines); });
  }
  static std::string said(const std::string& content) {
    return R"({"messages": [{"role": "user", "content": ")" + content + R"("}]})" + "\n";
  }

  Folder folder_;
};

TEST_F(ChatData, HasTheTextsAndIdsOfApplyChatTemplate) {
  const json expected = load_json(chat_fixtures() / "rows_expected.json");
  const auto tokenizer = load_tokenizer(model());
  std::ifstream file(chat_fixtures() / "rows.jsonl");
  std::vector<std::string> rows;
  for (std::string line; std::getline(file, line);) rows.push_back(line);
  for (const auto& [name, results] : expected.items()) {
    use(io::read_file(chat_fixtures() / "templates" / (name + ".jinja")));
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (results[i].is_null()) {
        EXPECT_THAT(error(rows[i]), HasSubstr("E216")) << name << " row " << i;
        continue;
      }
      const std::vector<std::string> got = texts(rows[i]);
      ASSERT_EQ(got.size(), 1U);
      EXPECT_EQ(got[0], results[i]["text"].get<std::string>()) << name << " row " << i;
      EXPECT_EQ(tokenizer->encode(got[0]), results[i]["ids"].get<TokenIds>())
          << name << " row " << i;
    }
  }
}

TEST_F(ChatData, HasTheSpecialTokensOfTheTokenizersConfig) {
  EXPECT_THAT(texts(said("Hi")), ElementsAre("<|im_start|>[user]Hi<|im_end|>"));
}

TEST_F(ChatData, GivesShareGptsSpeakersTheirRoles) {
  EXPECT_THAT(
      texts("{\"system\": \"s\", \"conversations\": [{\"from\": \"human\", \"value\": \"a\"}, "
            "{\"from\": \"gpt\", \"value\": \"b\"}]}\n"),
      ElementsAre("<|im_start|>[system]s[user]a[assistant]b<|im_end|>"));
}

TEST_F(ChatData, ReadsAListInAJsonFile) {
  EXPECT_THAT(texts("[" + said("a") + "," + said("b") + "]", "chat.json"),
              ElementsAre("<|im_start|>[user]a<|im_end|>", "<|im_start|>[user]b<|im_end|>"));
}

TEST_F(ChatData, TakesTheTextColumnFirst) {
  EXPECT_THAT(texts("{\"text\": \"plain\", \"messages\": []}\n"), ElementsAre("plain"));
}

TEST_F(ChatData, SkipsConversationsWithoutMessages) {
  EXPECT_THAT(texts("{\"messages\": []}\n"), ElementsAre());
}

TEST_F(ChatData, JoinsPartsForTemplatesThatKnowNone) {
  EXPECT_THAT(
      texts("{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": "
            "\"a\"}, {\"type\": \"text\", \"text\": \"b\"}]}]}\n"),
      ElementsAre("<|im_start|>[user]ab<|im_end|>"));
}

TEST_F(ChatData, GivesPartsToTemplatesThatReadThem) {
  use("{% for m in messages %}{% for p in m.content %}<{{ p.text }}>{% endfor %}{% endfor %}");
  EXPECT_THAT(
      texts("{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": "
            "\"a\"}, {\"type\": \"text\", \"text\": \"b\"}]}]}\n"),
      ElementsAre("<a><b>"));
}

TEST_F(ChatData, HasTheVariablesAndTheDayOfTheSource) {
  use("{{ enable_thinking }} {{ style.length if style else '' }} {{ strftime_now('%d %b %Y') }}");
  TextSource s = source(said("Hi"));
  EXPECT_THAT(texts_of(s, model()), ElementsAre("  01 Jan 2025"));
  s.chat.variables = {{"enable_thinking", false}, {"style", {{"length", 3}}}};
  s.chat.date = "2024-02-29";
  EXPECT_THAT(texts_of(s, model()), ElementsAre("False 3 29 Feb 2024"));
  s.chat.date = "2023-02-29";
  EXPECT_THAT(error_of([&] { texts_of(s, model()); }, ErrorKind::kConfig), HasSubstr("E106: "));
}

TEST_F(ChatData, ReadsToolsWrittenAsAString) {
  use("{{ tools[0].name }}");
  EXPECT_THAT(
      texts(
          R"({"messages": [{"role": "user", "content": "x"}], "tools": "[{\"name\": \"now\"}]"})"),
      ElementsAre("now"));
}

TEST_F(ChatData, TakesTheTemplateThatIsAsked) {
  std::filesystem::remove(model() / "chat_template.jinja");
  const json list = {{{"name", "default"}, {"template", "D"}},
                     {{"name", "tool_use"}, {"template", "T"}},
                     {{"name", "rag"}, {"template", "R"}}};
  json config = load_json(model() / "tokenizer_config.json");
  config["chat_template"] = list;
  folder_.write("tokenizer_config.json", config.dump());
  EXPECT_THAT(texts(said("x")), ElementsAre("D"));
  EXPECT_THAT(texts(R"({"messages": [{"role": "user", "content": "x"}], "tools": [{}]})"),
              ElementsAre("T"));
  TextSource s = source(said("x"));
  s.chat.name = "rag";
  EXPECT_THAT(texts_of(s, model()), ElementsAre("R"));
  s.chat.name = "none";
  EXPECT_THAT(error_of([&] { texts_of(s, model()); }),
              HasSubstr("has no chat template 'none'; it has 'default', 'rag', 'tool_use'"));
}

TEST_F(ChatData, IsRefusedWithoutATemplate) {
  std::filesystem::remove(model() / "chat_template.jinja");
  EXPECT_THAT(error(said("x")), HasSubstr("E217: "));
  EXPECT_THAT(error(said("x")),
              HasSubstr("chat.jsonl:1: conversations need a model with a chat template; "));
}

TEST_F(ChatData, NamesTheLineOfTheDataAndOfTheTemplate) {
  use("\n{{ raise_exception('no ' ~ messages[0].content) }}");
  EXPECT_THAT(error(said("a")),
              HasSubstr("chat.jsonl:1: chat template 'default':2: the template refuses the "
                        "conversation: no a"));
}

TEST_F(ChatData, RefusesMessagesThatAreNone) {
  EXPECT_THAT(error("{\"messages\": [5]}\n"), HasSubstr("a message is number, not an object"));
  EXPECT_THAT(error("{\"messages\": [{\"content\": \"x\"}]}\n"),
              HasSubstr("a message has no role"));
  EXPECT_THAT(error("{\"conversations\": [{\"from\": \"martian\", \"value\": \"x\"}]}\n"),
              HasSubstr("a message is from 'martian', who is not known"));
  EXPECT_THAT(
      error("{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image\"}]}]}\n"),
      HasSubstr("a part that is not text"));
}

// ---- Plain text where there is no template

class PlainChat : public ChatData {
 protected:
  std::vector<std::string> plain(const std::string& lines) const {
    TextSource s = source(lines);
    s.chat.plain = true;
    return texts_of(s, model());
  }
};

TEST_F(PlainChat, IsMadeForModelsWithoutATemplate) {
  std::filesystem::remove(model() / "chat_template.jinja");
  nlohmann::json settings = load_json(model() / "tokenizer_config.json");
  settings.erase("chat_template");
  folder_.write("tokenizer_config.json", settings.dump());
  const std::string line =
      R"({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]})";
  EXPECT_THAT(error(line), HasSubstr("E217"));
  EXPECT_THAT(plain(line), ElementsAre("System: Be brief.\n\nUser: Hi\n\n"));
}

TEST_F(PlainChat, HasToolsTheirCallsAndReasoning) {
  use("{{ raise_exception('no tools') }}");
  EXPECT_THAT(
      plain(
          R"({"tools": [{"name": "now"}], "messages": [{"role": "assistant", "content": "", "reasoning": "Ask.", "tool_calls": [{"name": "now"}]}, {"role": "tool", "content": "12:00"}]})"),
      ElementsAre("Tools: [{\"name\":\"now\"}]\n\nAssistant: (Ask.) [{\"name\":\"now\"}]\n\n"
                  "Tool: 12:00\n\n"));
}

TEST_F(PlainChat, IsCountedAndOnlyForConversationsThatTheTemplateRefuses) {
  use("{% if messages[0].content == 'no' %}{{ raise_exception('no') }}{% endif %}" +
      std::string(kPlain));
  TextSource s = source(said("yes") + said("no"));
  s.chat.plain = true;
  EXPECT_THAT(texts_of(s, model()), ElementsAre("<|im_start|>[user]yes<|im_end|>", "User: no\n\n"));
  const auto tokenizer = load_tokenizer(model());
  const PackingOptions options{.n_samples = 2, .seqlen = 8, .packing = Packing::kPad};
  const Manifest manifest = pack_tokens({s}, *tokenizer, options, model()).manifest;
  EXPECT_EQ(manifest.sources[0].plain_conversations, 1);
  EXPECT_EQ(manifest.sources[0].documents, 2);
}

TEST_F(PlainChat, IsNotMadeOfMessagesThatAreNone) {
  EXPECT_THAT(error_of([&] { plain("{\"messages\": [5]}\n"); }),
              HasSubstr("a message is number, not an object"));
}

// ---- Tokens

constexpr std::int32_t kStart = 1;  // <|im_start|>, SmolLM2's BOS
constexpr std::int32_t kEnd = 2;

TEST_F(ChatData, ParsesSpecialTokensWhateverTheJobSays) {
  const auto tokenizer = load_tokenizer(model());
  PackingOptions options{.n_samples = 1, .seqlen = 8, .packing = Packing::kPad};
  options.parse_special = false;
  const auto blocks = pack_tokens({source(said("a"))}, *tokenizer, options, model()).blocks;
  EXPECT_EQ(blocks.ids_BS.row(0)[0], kStart);
  EXPECT_EQ(blocks.ids_BS.row(0)[blocks.lengths_B[0] - 1], kEnd);
}

// A tokenizer that puts a BOS first.
json with_bos(json document) {
  document["post_processor"] = {
      {"type", "TemplateProcessing"},
      {"single",
       {{{"SpecialToken", {{"id", "<|im_start|>"}, {"type_id", 0}}}},
        {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
      {"pair", json::array()},
      {"special_tokens",
       {{"<|im_start|>",
         {{"id", "<|im_start|>"}, {"ids", {kStart}}, {"tokens", {"<|im_start|>"}}}}}}};
  return document;
}

TEST_F(ChatData, HasOneBosWhereTheTemplateWritesIt) {
  folder_.write("tokenizer.json", with_bos(load_json(model() / "tokenizer.json")).dump());
  const auto tokenizer = load_tokenizer(model());
  ASSERT_EQ(tokenizer->prefix(), TokenIds{kStart});
  const PackingOptions options{.n_samples = 1, .seqlen = 8, .packing = Packing::kPad};
  for (const char* text : {kPlain, "{{ messages[0].content }}"}) {
    use(text);
    const auto blocks = pack_tokens({source(said("a"))}, *tokenizer, options, model()).blocks;
    EXPECT_EQ(blocks.ids_BS.row(0)[0], kStart) << text;
    EXPECT_NE(blocks.ids_BS.row(0)[1], kStart) << text;
  }
}

TEST_F(ChatData, GivesWindowsForAnEvaluation) {
  const auto tokenizer = load_tokenizer(model());
  const auto path = source(said("a") + said("b")).path;
  const auto windows = consecutive_windows(path, *tokenizer, 4, 0, {}, model());
  const TokenIds ids =
      tokenizer->encode("<|im_start|>[user]a<|im_end|><|im_start|>[user]b<|im_end|>");
  EXPECT_TRUE(std::equal(windows.blocks.ids_BS.data(),
                         windows.blocks.ids_BS.data() + windows.blocks.ids_BS.size(), ids.begin()));
  EXPECT_EQ(windows.manifest.sources[0].documents, 2);
  EXPECT_EQ(windows.manifest.sources[0].tokens, static_cast<std::int64_t>(ids.size()));
}

}  // namespace
}  // namespace calque::text
