// The way of a script through the OpenAI client for Node: create, run, poll, page, cancel, delete.
//     NODE_PATH=… node journey.cjs BASE_URL KEY MODEL
const assert = require("node:assert/strict");
const OpenAI = require("openai");

const [baseURL, apiKey, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const ROWS = 45;
const rows = Array.from({ length: ROWS }, (_, number) => ({
  item: { question: `Repeat ${number}`, answer: number % 3 ? `Repeat ${number}` : "no" },
}));
const dataSource = (source, name = model) => ({
  type: "completions",
  model: name,
  source,
  input_messages: { type: "template", template: [{ role: "user", content: "{{ item.question }}" }] },
});

async function finished(runId, evalId) {
  const deadline = Date.now() + 60_000;
  for (;;) {
    const run = await client.evals.runs.retrieve(runId, { eval_id: evalId });
    if (!["queued", "in_progress"].includes(run.status)) return run;
    assert.ok(Date.now() < deadline, JSON.stringify(run));
    await new Promise((wake) => setTimeout(wake, 100));
  }
}

async function main() {
  const text = rows.map((row) => JSON.stringify(row) + "\n").join("");
  const file = await client.files.create({
    file: await OpenAI.toFile(Buffer.from(text), "rows.jsonl"),
    purpose: "evals",
  });
  assert.equal(await (await client.files.content(file.id)).text(), text);
  const made = await client.evals.create({
    name: "node",
    data_source_config: {
      type: "custom",
      item_schema: { type: "object", properties: { question: { type: "string" } } },
      include_sample_schema: true,
    },
    testing_criteria: [
      {
        type: "string_check",
        name: "exact",
        input: "{{ sample.output_text }}",
        reference: "{{ item.answer }}",
        operation: "eq",
      },
    ],
  });
  assert.equal((await client.evals.update(made.id, { name: "renamed" })).name, "renamed");
  const ids = [];
  for await (const one of client.evals.list({ limit: 1, order: "desc" })) ids.push(one.id);
  assert.ok(ids.includes(made.id));

  const started = await client.evals.runs.create(made.id, {
    data_source: dataSource({ type: "file_id", id: file.id }),
  });
  const run = await finished(started.id, made.id);
  assert.equal(run.status, "completed");
  assert.deepEqual(run.result_counts, { total: 45, errored: 0, failed: 15, passed: 30 });
  const seen = [];
  const items = client.evals.runs.outputItems.list(run.id, { eval_id: made.id, limit: 7 });
  for await (const item of items) seen.push(item.datasource_item_id);
  assert.deepEqual(seen, [...Array(ROWS).keys()]);

  const going = await client.evals.runs.create(made.id, {
    data_source: dataSource({ type: "file_content", content: rows }, "slow:30"),
  });
  const stopped = await client.evals.runs.cancel(going.id, { eval_id: made.id });
  assert.equal(stopped.status, "canceled");
  await assert.rejects(
    client.evals.create({ data_source_config: {}, testing_criteria: [] }),
    (error) => error instanceof OpenAI.BadRequestError && Boolean(error.param),
  );
  await assert.rejects(client.evals.retrieve("eval_none"), OpenAI.NotFoundError);
  assert.equal((await client.evals.runs.delete(going.id, { eval_id: made.id })).deleted, true);
  assert.equal((await client.files.delete(file.id)).deleted, true);
  assert.equal((await client.evals.delete(made.id)).eval_id, made.id);
  console.log("openai for Node went the whole way");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
