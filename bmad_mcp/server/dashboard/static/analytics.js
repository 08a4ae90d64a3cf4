// The project's numbers, with plots.
import { bars, buckets, lines } from "./plots.js";
import { el, figures, replace, table } from "./text.js";
import { lasted } from "./time.js";

const percent = (share) => (share === null || share === undefined ? "–" : `${Math.round(share * 100)} %`);

export class Analytics {
  constructor(root) {
    this._root = root;
    this._told = "";
  }

  /** Show what analytics_overview answers. */
  show(numbers) {
    const told = JSON.stringify(numbers);
    if (told === this._told) return;
    this._told = told;
    const { tasks, stories, workflows, agents, memory, handoffs, trends } = numbers;
    const labels = buckets(trends.first_day, trends.bucket, trends.completed_counts.length);
    const per = trends.bucket;
    const now = tasks.work_in_progress;
    replace(
      this._root,
      figures([
        ["Tasks completed", tasks.completed_count, `${trends.earlier_completed_count} before`],
        ["Cycle time, half of them", lasted(tasks.cycle.p50_seconds), `85 % within ${lasted(tasks.cycle.p85_seconds)}`],
        ["Stories done", stories.done_count, `${stories.under_way_count} under way`],
        ["Quality", trends.quality.mean_points ?? "–", `${trends.quality.rated_count} rated`],
        ["Workflows running", workflows.running_count, `${workflows.completed_count} completed`],
        ["Memory found", percent(memory.hit_share), `${memory.lookups_count} look-ups`],
      ]),
      el(
        "div",
        { class: "plots" },
        bars(`Tasks completed by ${per}`, labels, trends.completed_counts),
        bars(`Changes by ${per}`, labels, trends.changes_counts),
        lines(`Mean quality by ${per}`, labels, [{ name: "Points", values: trends.quality_mean_points }]),
        bars(
          "Work in progress now",
          ["ready", "active", "in progress", "review", "blocked"],
          [now.ready_count, now.active_count, now.in_progress_count, now.review_count, now.blocked_count],
        ),
      ),
      agents.top.length
        ? table("Agents that completed tasks", ["Agent", "Completed", "Quality"], agents.top.map((one) => [one.agent, one.completed_count, one.quality_mean_points]))
        : null,
      workflows.bottlenecks.length
        ? table(
            "Stages where most time goes",
            ["Workflow", "Stage", "Agent", "Share of time", "Waiting"],
            workflows.bottlenecks.map((one) => [one.type, `${one.position} ${one.step}`, one.agent, percent(one.time_share), one.waiting_count]),
          )
        : null,
      tasks.ageing.oldest.length
        ? table("Oldest open work", ["Task", "Status", "Agent", "Age"], tasks.ageing.oldest.map((one) => [one.task, one.status, one.agent, lasted(one.age_seconds)]))
        : null,
      el("p", { class: "note" }, `Handoffs: ${handoffs.offered_count} offered, ${percent(handoffs.accepted_share)} accepted.`),
    );
  }
}
