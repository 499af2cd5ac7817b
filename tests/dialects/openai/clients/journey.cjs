// The way of a script through the OpenAI client for Node, over every resource that it has for us.
//     NODE_PATH=… HOOK_PORT=… HOOK_SECRET=… node journey.cjs BASE_URL KEY MODEL
// Where the ends of runs are told at http://127.0.0.1:HOOK_PORT/, signed with HOOK_SECRET.
const assert = require("node:assert/strict");
const fs = require("node:fs");
const http = require("node:http");
const path = require("node:path");
const OpenAI = require("openai");

const [baseURL, apiKey, model] = process.argv.slice(2);
const called = [];
const client = new OpenAI({
  baseURL,
  apiKey,
  maxRetries: 0,
  fetch: (url, init) => {
    called.push(`${init.method.toUpperCase()} ${new URL(url).pathname}`);
    return fetch(url, init);
  },
});
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
  const deadline = Date.now() + 1000 * Number(process.env.WAIT_SECONDS);
  for (;;) {
    const run = await client.evals.runs.retrieve(runId, { eval_id: evalId });
    if (!["queued", "in_progress"].includes(run.status)) return run;
    assert.ok(Date.now() < deadline, JSON.stringify(run));
    await new Promise((wake) => setTimeout(wake, 100));
  }
}

async function all(list) {
  const found = [];
  for await (const one of list) found.push(one);
  return found;
}

const idsOf = (objects) => objects.map((one) => one.id);
const said = (content) => [{ role: "user", content }];

async function evals() {
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
  assert.deepEqual(await client.evals.retrieve(made.id), made);
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
  const where = { eval_id: made.id, run_id: run.id };
  const [failed] = (
    await client.evals.runs.outputItems.list(run.id, { eval_id: made.id, status: "fail", limit: 1 })
  ).data;
  assert.deepEqual(await client.evals.runs.outputItems.retrieve(failed.id, where), failed);
  const completed = await all(client.evals.runs.list(made.id, { status: "completed" }));
  assert.deepEqual(idsOf(completed), [run.id]);

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
}

async function completions() {
  const made = [];
  for (const number of [0, 1, 2]) {
    const one = await client.chat.completions.create({
      model,
      messages: [{ role: "developer", content: "Be brief" }, ...said(`please ${number}`)],
      store: true,
      metadata: { case: "node" },
    });
    assert.equal(one.choices[0].message.content, `please ${number}`);
    made.push(one.id);
  }
  const query = { metadata: { case: "node" }, model, limit: 2 };
  assert.deepEqual(idsOf(await all(client.chat.completions.list(query))), made);
  const down = await all(client.chat.completions.list({ ...query, order: "desc" }));
  assert.deepEqual(idsOf(down), [...made].reverse());
  const page = await client.chat.completions.list(query);
  assert.deepEqual([page.data.length, page.has_more, page.hasNextPage()], [2, true, true]);
  assert.deepEqual(idsOf((await page.getNextPage()).data), made.slice(2));
  assert.equal((await client.chat.completions.retrieve(made[0])).metadata.case, "node");
  const messages = await all(client.chat.completions.messages.list(made[0], { limit: 1 }));
  assert.deepEqual(messages.map((one) => [one.role, one.content]), [
    ["developer", "Be brief"],
    ["user", "please 0"],
  ]);
  const other = await client.chat.completions.update(made[2], { metadata: { case: "other" } });
  assert.deepEqual(other.metadata, { case: "other" });
  const stream = await client.chat.completions.create({
    model,
    messages: said("one two"),
    store: true,
    stream: true,
    stream_options: { include_usage: true },
  });
  const chunks = await all(stream);
  const words = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "");
  assert.equal(words.join(""), "one two");
  assert.ok(chunks.at(-1).usage.total_tokens > 0);
  const kept = await client.chat.completions.retrieve(chunks[0].id);
  assert.equal(kept.choices[0].message.content, "one two");
  assert.equal((await client.chat.completions.delete(chunks[0].id)).deleted, true);
  await assert.rejects(client.chat.completions.retrieve(chunks[0].id), OpenAI.NotFoundError);
}

async function responses() {
  const first = await client.responses.create({ model, input: "one", metadata: { case: "node" } });
  assert.equal(first.output_text, "one");
  assert.equal((await client.responses.retrieve(first.id)).output_text, "one");
  const second = await client.responses.create({
    model,
    input: [{ role: "user", content: [{ type: "input_text", text: "two please" }] }],
    instructions: "Repeat",
    previous_response_id: first.id,
    metadata: { case: "node" },
  });
  assert.equal(second.output_text, "two please");
  const told = [];
  const events = client.responses.stream({ model, input: "three four", store: false });
  for await (const event of events) {
    if (event.type === "response.output_text.delta") told.push(event.delta);
  }
  const final = await events.finalResponse();
  assert.deepEqual([told.join(""), final.output_text], ["three four", "three four"]);
  await assert.rejects(client.responses.retrieve(final.id), OpenAI.NotFoundError);
  const gone = await client.responses.create({ model, input: "gone" });
  await client.responses.delete(gone.id);
  await assert.rejects(client.responses.retrieve(gone.id), OpenAI.NotFoundError);
}

async function runsOverWhatIsKept() {
  const polite = {
    type: "string_check",
    name: "polite",
    input: "{{ sample.output_text }}",
    reference: "please",
    operation: "like",
  };
  const anew = {
    model,
    input_messages: { type: "item_reference", item_reference: "item.input" },
  };
  const sources = [
    ["stored_completions", { type: "completions", source: { type: "stored_completions" } }, [2, 2]],
    ["logs", { type: "completions", source: { type: "stored_completions" }, ...anew }, [2, 2]],
    ["logs", { type: "responses", source: { type: "responses", limit: 9 } }, [2, 1]],
  ];
  for (const [type, data_source, [total, passed]] of sources) {
    const made = await client.evals.create({
      data_source_config: { type, metadata: { case: "node" } },
      testing_criteria: [polite],
    });
    const started = await client.evals.runs.create(made.id, { data_source });
    const run = await finished(started.id, made.id);
    assert.equal(run.status, "completed", JSON.stringify(run.error));
    assert.deepEqual([run.result_counts.total, run.result_counts.passed], [total, passed]);
    assert.equal(run.data_source.type, data_source.type);
  }
}

async function graders() {
  const grader = {
    type: "string_check",
    name: "same",
    input: "{{ sample.output_text }}",
    reference: "{{ item.answer }}",
    operation: "eq",
  };
  const alpha = client.fineTuning.alpha.graders;
  assert.deepEqual((await alpha.validate({ grader })).grader, grader);
  const body = { model_sample: "yes", item: { answer: "yes" } };
  assert.equal((await alpha.run({ grader, ...body })).reward, 1);
  const multi = { type: "multi", name: "both", graders: { a: grader }, calculate_output: "a / 2" };
  const tried = await alpha.run({ grader: multi, ...body });
  assert.deepEqual([tried.reward, tried.sub_rewards], [0.5, { a: 1 }]);
  const lost = await alpha.run({ grader, model_sample: "yes", item: {} });
  assert.deepEqual([lost.reward, lost.metadata.errors.invalid_variable_error], [0, true]);
  await assert.rejects(alpha.validate({ grader: { ...grader, operation: "neq" } }), {
    status: 400,
    param: "grader.operation",
    code: "invalid_value",
  });
}

async function filesAndModels() {
  const ids = [];
  for (const name of ["a.jsonl", "b.jsonl", "c.jsonl"]) {
    const file = await client.files.create({
      file: await OpenAI.toFile(Buffer.from('{"item": {}}\n'), name),
      purpose: "evals",
      expires_after: { anchor: "created_at", seconds: 3600 },
    });
    assert.deepEqual([file.object, file.filename, file.status], ["file", name, "processed"]);
    assert.equal(file.expires_at, file.created_at + 3600);
    ids.unshift(file.id);
  }
  const listed = idsOf(await all(client.files.list({ limit: 1, purpose: "evals" })));
  assert.deepEqual(listed.filter((id) => ids.includes(id)), ids);
  const up = idsOf(await all(client.files.list({ limit: 2, order: "asc" })));
  assert.deepEqual(up.filter((id) => ids.includes(id)), [...ids].reverse());
  assert.equal((await client.files.retrieve(ids[0])).id, ids[0]);
  for (const id of ids) assert.equal((await client.files.delete(id)).deleted, true);
  await assert.rejects(client.files.content(ids[0]), OpenAI.NotFoundError);
  assert.ok(idsOf(await all(client.models.list())).includes(model));
  assert.equal((await client.models.retrieve(model)).id, model);
  await assert.rejects(client.models.retrieve("no/such:model"), {
    status: 404,
    code: "model_not_found",
  });
}

async function errors() {
  const wrong = client.withOptions({ apiKey: "wrong" });
  await assert.rejects(wrong.evals.list(), OpenAI.AuthenticationError);
  await assert.rejects(client.evals.list({ limit: 0 }), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.deepEqual([error.status, error.param], [400, "limit"]);
    assert.equal(error.code, "integer_below_min_value");
    assert.match(error.requestID, /^req_[0-9a-f]{32}$/);
    return error.message.startsWith("400 ") && error.type === "invalid_request_error";
  });
  await assert.rejects(client.post("/evals/eval_1/nothing"), OpenAI.NotFoundError);
  await assert.rejects(client.put("/evals"), (error) => error.status === 405);
  const { response } = await client.evals.list({ limit: 1 }).withResponse();
  assert.match(response.headers.get("x-request-id"), /^req_/);
}

async function webhooks() {
  const taken = [];
  const server = http.createServer(async (request, response) => {
    let body = "";
    for await (const piece of request) body += piece;
    taken.push({ body, headers: request.headers });
    response.end();
  });
  await new Promise((done) => server.listen(Number(process.env.HOOK_PORT), "127.0.0.1", done));
  try {
    const made = await client.evals.create({
      data_source_config: { type: "custom", item_schema: { type: "object" } },
      testing_criteria: [
        { type: "string_check", name: "x", input: "x", reference: "x", operation: "eq" },
      ],
    });
    const content = [{ item: {} }];
    const run = await client.evals.runs.create(made.id, {
      data_source: { type: "jsonl", source: { type: "file_content", content } },
    });
    const deadline = Date.now() + 1000 * Number(process.env.WAIT_SECONDS);
    let event;
    while (event?.data.id !== run.id) {
      assert.ok(Date.now() < deadline, JSON.stringify(taken));
      await new Promise((wake) => setTimeout(wake, 100));
      for (const { body, headers } of taken.splice(0)) {
        event = await client.webhooks.unwrap(body, headers, process.env.HOOK_SECRET);
        const forged = client.webhooks.unwrap(`${body} `, headers, process.env.HOOK_SECRET);
        await assert.rejects(forged, OpenAI.InvalidWebhookSignatureError);
        if (event.data.id === run.id) break;
      }
    }
    assert.deepEqual([event.object, event.type], ["event", "eval.run.succeeded"]);
  } finally {
    server.close();
  }
}

// The routes of the contract's table that no call took; a release knows one path to cancel by.
function neverTaken() {
  const table = JSON.parse(fs.readFileSync(path.join(__dirname, "routes.json"), "utf8"));
  const routes = table.map(([method, route]) => `${method} ${route}`);
  return routes.filter((route) => {
    const shape = route.replace(" ", " /v1").replace(/\{\w+\}/g, "[^/]+");
    return !called.some((call) => new RegExp(`^${shape}$`).test(call));
  });
}

async function main() {
  for (const part of [
    webhooks,
    evals,
    completions,
    responses,
    runsOverWhatIsKept,
    graders,
    filesAndModels,
    errors,
  ]) {
    await part();
    console.log(part.name);
  }
  const left = neverTaken();
  assert.equal(left.length, 1, left.join());
  assert.match(left[0], /^POST \/evals\/{eval_id}\/runs\/{run_id}(\/cancel)?$/);
  console.log("openai for Node went the whole way");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
