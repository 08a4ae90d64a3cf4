"""The words and phrases that speak for each category of memories, with their weights.

How to read a sign: `finish*` is any form of a verb or noun (finishes, finished, finishing); `^fixed` counts at the
beginning of a sentence only. `<role>`, `<person>`, `<attitude>`, `<comm>` and `<deed>` stand for any word of the lists
below; `<task>` is T-1, `<handoff>` H-1, `<workflow>` W-1, `<file>` a path or file name, `<name>` a name out of code,
`<n>` a number, `<clock>` 13:40, `<times>` 3x, `<verdict>` PASS or FAIL in capitals. Signs that overlap all count.
"""

from collections.abc import Mapping

ROLES = """
    dev devs dev-1 dev-2 dev-3 developer developers qa tester testers sm scrum-master po product-owner
    pm ux ux-expert designer architect analyst reviewer orchestrator devops data-engineer tech-writer
"""
PERSONS = """
    user users owner maintainer founder client customer boss stakeholder sponsor she he
"""
ATTITUDES = """
    wants wanted likes liked loves hates dislikes finds expects insists wishes needs cares believes
    thinks minds decides demands complained complains doesn't does hopes appreciates knows enjoys
    explicitly would
"""
# What agents do to one another.
COMMUNICATION = """
    asked asks told informed informs overruled supplied supplies answered answers replied replies
    offered offers accepted accepts refused refuses returned returns helped helps reviewed reviews waits
    handed hands sent sends gave gives agreed agrees disagreed promised promises delivered delivers
    proposed objected objects reminded reminds reminded confirmed confirms requested requests rejected
    rejects pinged notified escalated assigned explained suggested flagged shared consulted mentored
    credits trusts lacks raised picked
"""
# What was done to a thing: strong as the first word of a sentence, weak anywhere else.
DEEDS = """
    added fixed implemented completed finished delivered shipped closed resolved merged deployed removed
    replaced upgraded updated built created wrote rewrote rewritten written ported wired extracted
    repaired corrected translated refactored migrated released solved mended deleted converted renamed
    moved patched introduced enabled disabled published landed integrated bumped installed documented
    generated hardened cleaned switched split done swapped sped shrunk trimmed tested verified rolled
"""
VERDICTS = frozenset({"PASS", "FAIL", "CONCERNS", "WAIVED"})

SIGNS: Mapping[str, Mapping[float, str]] = {
    "USER_PREFERENCES": {
        3.0: """<person> <attitude> | ^he wants | ^she wants | allergic to | ask before | can't stand | cannot stand |
            client wants | dislike* | do not bother | don't bother | explicitly asked | explicitly requested | fond of |
            house style | i hate | i like | i love | i'd like | in the user's words | likes to be | no need to ask |
            personal preference | pet peeve | prefer* | user hates | user insists | user likes | user wants | users prefer |
            wants us to | we want you | when in doubt""",
        2.5: """^always ask | ^always run | ^always show | ^always use | ^never use | ^prefers | ask for permission |
            before anything | client asked that | customer asked that | does not like | her favourite | his favourite |
            new to | said the user | says the client | says the owner | says the user | the user reads | to be asked |
            wants to be asked""",
        2.0: """<person> asked | <person> said | <person> told us | <person>'s rule | <person>'s taste | ^answer |
            ^answers | ^avoid | ^call | ^do not | ^don't | ^never | ^no more | ^reply | ^skip the | ^speak | ^spell |
            ^stick to | american spelling | annoy* | apologies | asked us | beforehand | british spelling | cares about |
            concise | customer asked | customer wants | customer would like | double quotes | emoji | emojis | enjoys |
            favor* | favorite | favour* | favourite | formality | from the user | happy | hate* | he wants | he'd rather |
            i do not | i don't | i prefer | i want | i'd rather | informal | insist* | irritated | irritates | jargon |
            leave out | leave them out | loves | on her own | on his own | on their own | own words | owner wants |
            oxford comma | pick one | picky | plain language | plain words | please | pleased | politeness | semicolons |
            she wants | she'd rather | short answers | single quotes | stop adding | stop doing that | style guide | taste |
            terse | tolerates | two-space | upset | user asked | user does not | user doesn't | user expects | user finds |
            user knows | user said | user wishes | user would | user's rule | verbose | verbosity | want you to |
            without being asked | would like | would rather""",
        1.5: """^always | ^asked | ^expects | ^explain | ^hates | ^her | ^his | ^insists | ^keep | ^likes | ^please |
            ^show | ^speaks | ^thinks | ^use | ^user | ^user's | ^wants | ^wishes | ^write | aesthetic | appreciat* |
            believes | by herself | by himself | colors | colours | complain* | dark theme | does not want | doesn't care |
            doesn't like | doesn't want | each time he | each time she | every time | expects | font | fonts | his |
            impatient | in chinese | in english | in french | in german | in japanese | in spanish | light theme | likes |
            likes to | minds | opinion | our client | patience | rather than | spelling | tabs | the boss | the founder |
            the lead | the maintainer | the owner | thinks | time zone | timezone | told us to | tone | used to | wants |
            wish | wishes | works from""",
        1.0: """^ask | ^no | abbreviations | blank line | boring | british | bullet points | colour-blind |
            commit messages | do not | don't | editor | emails | exclamation marks | formal | friendly | greeting | he |
            headings | headlines | her | herself | him | himself | indentation | mails | markdown | never | ok | okay |
            one option | permission | rather | review himself | say why | she | sign off with | signature | spaces |
            summary first | want | wording""",
        0.7: """<person> has | <person> is | <person> reads | <person> reviews | ^leave | ^stay | brief | considers |
            language | lines | lists | messages | mind | phone | picture | request | requested | screenshot | sketch | table
            | tables""",
        0.5: """always | chat | comments | english | german | options | polite | style | user | user's""",
    },
    "WORKFLOW_OPTIMIZATION": {
        3.0: """^idea | ^improvement | ^proposal | ^recommendation | ^suggestion | bottleneck* | cut down | cuts down |
            cycle time | diminishing returns | faster | get rid of the | improvement* | in one go | inefficien* | lead time
            | less time | low-hanging fruit | more time than | not worth | optimi* | overkill | pain point | pays for itself
            | pays off | pure loss | quick win | quicker | recommend* | sooner | speed* up | spends half | stop doing |
            streamlin* | takes longer | time saver | time sink | too slow | turnaround | turnaround time | twice as fast |
            unproductive | waste of""",
        2.5: """^skip | ^stop | any more | burns | can be dropped | cut ci | cut the build | less ceremony |
            less context | lose about | lost about | never changed | no one reads | nobody has to | round trip | save a |
            swap | swap the order | thrown away | we lose | would be faster | would save""",
        2.0: """accelerat* | acceleration | automate* | avoid that | better use | blocker* | brought down |
            can be skipped | cheaper | come back from | concurrently | consolidat* | context switches | context switching |
            could be | could save | could skip | double work | duplicated work | efficiency | efficient | efficiently |
            eliminat* | expensive | faster than | fewer agents | half his time | half its time | half of the stories |
            half of the time | half their time | halv* | hold-up | hold-ups | idea | idle* | in parallel | in place of |
            insight | instead of waiting | involve | is sufficient | lean | leaner | made the process | make it |
            merge queue | most of the time | mostly due to | needless | needlessly | no longer necessary | nobody needs |
            nobody reads | nobody uses | not necessary | on demand | overhead | parallelise* | parallelize* | payoff | pays
            | pipelined | pipelining | prefetch* | preload* | queueing | quickly | reduc* | redundan* | redundant |
            remove the | rework | sample instead | saved | saves | scripted | shorten* | should be dropped | should stop |
            simpler | simplif* | snapshot | sped up | speedup | spends | start earlier | suggest* | superfluous | the cost |
            throughput | tighten* | time is lost | too early | too late | too often | twice as | unlock* | unnecessary |
            velocity | wait overnight | waste* | wasted | we should | we'd | would avoid | would help | would remove |
            would shrink | would solve""",
        1.5: """<times> | ^automate | ^batch | ^bring | ^cache | ^consider | ^cut | ^drop | ^let | ^limit | ^make |
            ^merge | ^move | ^preload | ^reduce | ^remove | ^replace | ^reuse | ^run | ^split | ^try | ahead of | avoids |
            batch* | better | build time | by eye | by half | by moving | by switching | by using | bypass | cached |
            ci time | combine | combining | comes from | cost us | costs more | costs us | could | cuts | done by hand |
            down to | experiment | for free | fraction of | generator | grew | grows | hours a | improv* | instead | is slow
            | less than half | local build | merge the | minutes a | move it | move the | on each push | on every push |
            parallel | propos* | retro | retrospective | reus* | save | shift | shifting | shrink* | skip* | slow | slower |
            slows | spare* | stems from | stop | tenth of | tokens | too much | trial | trim* | up front | upfront | useless
            | waiting | waits | waits for | went from | work in progress | worth""",
        1.2: """is enough | sufficient""",
        1.0: """^running | a day | a third | ahead | async | asynchronous | at once | automatic | automatically | brings
            | brought | by hand | cheap | cost* | cut | daily | delay* | discussion | drop | earlier | effort | even though
            | fewer | formatting | from <n> min | from <n> to <n> | gain* | half | helped | helps | incremental | instead of
            | k tokens | less | long-lived | manual | manually | minutes per | never used | not needed | one less | one pass
            | only on | only the | overnight | per epic | per run | pre-commit | rather than | running the | same result |
            script | second pass | slowed | spent on | swap* | takes | takes too | threshold | together with the story |
            too long | too many | went down | would""",
        0.7: """<n> min | <n> s | hook | meeting | meetings | needed | note | sec | sync | template | templates""",
        0.5: """cach* | each time | enough | hour | hours | limit | merging | minutes | nightly | per story | rose |
            should | smaller | tooling | wait""",
    },
    "QUALITY_METRICS": {
        3.0: """accuracy | auc | availability | bleu | burn rate | code quality | core web vitals | coverage | crash-
            free | customer-found | cvss | error rate | escaped bugs | escaped defects | false negatives | false positives |
            key metrics | lcp | load test | mrr | mtbf | mttr | nps | p50 | p90 | p95 | p99 | pass rate | pylint |
            quality index | quality report | quality trend | recall@k | response time | rouge | sla | slo | stability |
            test report | test results | test suite health""",
        2.5: """average | handoff rating | open items | review rounds | technical debt""",
        2.0: """<n> builds | <n> comments | <n> critical | <n> failed | <n> flaky | <n> high | <n> major | <n> minor |
            <n> of <n> | <n> passed | <n> points | <n> skipped | <n> tests | <n> warnings | acceptance rate | assessment |
            automated tests | baseline | benchmark* | bugs open | bugs per | compliance | consumption | contrast |
            covered by automated | cpu | crash* | decreased | defect* | definition of done | doubled | dropped from |
            dropped to | error budget | eval | evaluation | f1 | fell from | fell to | footprint | found <n> issues | fps |
            gate for | grade | grew to | halved | handoff scores | heap | incidents | increased | issues in | latency |
            leak* | lighthouse | mean review | memory footprint | metric* | mutation | nfr | on average | open bugs | out of
            | page load | passed | peaks at | per epic | per page | per release | per second | per thousand | per user |
            percentile | qps | quality checks | quality gate | quality score | rating | regression | req/s |
            requests per second | requirement is | review score | risk assessment | risk profile | rose from | rose to |
            rows/s | rps | score is | scored | scores of | sonarqube | static analysis | stats | test count | test pass rate
            | threshold is | thresholds | tickets | tps | traceability | uptime | verdict | violations | warnings | went up""",
        1.5: """<n> % | <n> low | <n> medium | <n> ms | <verdict> | against | compared with | complexity | counted |
            counts | critical | debt | density | duplication | executed | findings | gate | gates | last week | measured |
            measurement* | median | month | percent | precision | quality | query count | rate | ratio | readability |
            remark | remarks | score* | severity | share | smells | soak | this week | trend | uncovered | untested |
            untyped | vulnerabilit*""",
        1.2: """e2e tests | integration tests | unit tests""",
        1.0: """<n> errors | <n> failures | <n> gb | <n> kb | <n> mb | accessibility | all green | audit | biggest |
            bugs | build | builds | bytes | concerns | down from | errors | failures | fastest | fine | found <n> | found in
            | gb | in all | in total | kb | largest | last month | maintainability | mb | mean | memory use | minor | ms |
            number of | only <n> | per sprint | probability | recall | regress* | reliability | risk | risks | seconds |
            skipped | slowest | stayed | stays | target | test cases | total | up from | waived | worst""",
        0.7: """automated | automation | budget | case | cases | checklist | count | criteria | criterion | decrease |
            e2e | increase | index | integration | memory | met | of <n> | of the spec | p0 | p1 | p2 | peak | queries |
            release | spec | sprint | tested | unit | week""",
        0.5: """blocking | bug | checked | failed | flaky | goal | green | high | limit | lint | low | max | medium |
            of the last | performance | report | reports | result* | runs | security | serious""",
    },
    "AGENT_COLLABORATION": {
        3.0: """<role> <comm> <role> | <role> agent | <role> and <role> | <role> to <role> | <role>-agent | alignment |
            between <role> | collaborat* | disagree* | eye to eye | hand* over to | handover* | misunderstanding* |
            overruled | peer review | see eye to eye | takes over from | took over from""",
        2.5: """<role> is away | <role> prefers | <role> prefers to | communication | from dev to | from qa to | got it
            | handoff quality | hands them over | passed it to | prefers to receive | reports back | responsibility for |
            shared list | took over the | working with the | works well""",
        2.2: """<handoff>""",
        2.0: """<comm> <role> | <comm> by <role> | <comm> the <role> | <comm> to <role> | <role> <comm> |
            <role> <role> confirmed | <role> accepted | <role> agreed | <role> asked | <role> depends on | <role> hands |
            <role> lacked | <role> rejected | <role> told | <role> waits | <role> went to | <role>'s | agent on | agreed |
            align with | aligned with | announce* | another | another agent | ask <role> | ask the <role> | asked <role> |
            asked the <role> | asks <role> | assign | assigned to | assigns | back to <role> | between agents |
            between the two | buddy | check with | communicated | conflict between | cooperat* | cooperation | delegat* |
            each other's | escalat* | escalated to | from <role> | hand back | hand-off* | handed | handing over |
            handing to | handoff* | hands back | hands over | in agreement | informed | joint | jointly | merge conflict |
            mutual | needs from | next agent | next dev | objected | objection | on the board | other agent | other agents |
            pair | paired | pairing | points out | previous dev | raised by | reassigned | receiver | refused | requested by
            | reviewed by | speak to | speak with | sync with | taker | takes over | talk to | the two | told <role> |
            took over | two agents | two developers | two devs | wait* for <role> | waiting for <role> | waiting on <role> |
            waits on <role> | wants <role> | wants the <role> | while <role> | who to ask | withdrawn | word with |
            worked together | works for both""",
        1.5: """<role> in | <role> is | <role> needs | <role> offered | <role> sent | <role> wants | accept | accepts |
            acknowledged | agent and | agents | agents on | and tells | ask | blocked by | both agree | by agreement |
            colleague | confirmed | consult* | coordinat* | counterpart | decline | declined | discussed the | each other |
            explained | for questions | for the <role> | gives | got it within | hand | helped | mediat* | missing from |
            notified | notify | pass on | passed it | passed on | passed to | passes on | questions of | received |
            recipient | refuse | remembered | remind | reminds | responsib* | returned | returned to | roles | sender |
            sends | settled | settled on | supplied | supplies | team | tells <role> | the <role> asked | the agent |
            to <role> | transfer | transferred | trusts | who updates | with the <role> | without telling""",
        1.2: """answered | by <role> | of <role> | on <role> | together with | with <role>""",
        1.0: """accepted | agree* | agreement | arrangement | asked for | asks | both | feedback | for <role> |
            from the <role> | inform | listed | meet | offer | offered | promis* | questions | rejected | replied |
            reviewed <role> | share | sharing | tell | the other | to the <role> | told | verbatim | whoever |
            within an hour""",
        0.7: """at once | clear | communicat* | conflict | conflicts | contract | files | gave | include | lead |
            list of | mention | message | noted | receive | role | send | sent | split the | together | unclear""",
        0.5: """answer | asked | delivered | guidance | owns | question | reply | shared | thread""",
    },
    "WORKFLOW_PATTERNS": {
        3.0: """<verb> first then | and only then | at that point | best practice | best practices | brownfield |
            cadence | executions | from start to finish | greenfield | how it works here | in this order | learned pattern |
            life cycle | lifecycle | long route | only after that | order of work | our process | our way | playbook |
            proven | regular course | repeatable | ritual | routine | rule of thumb | runbook | standard procedure |
            standard route | standard workflow | step by step | the process | the way features | the way we |
            tried and tested | typical flow | usual cycle | usual flow | usual path | usual route""",
        2.0: """<workflow> | are followed | around here | as soon as | before moving on | biweekly | chain for |
            come after | come before | comes after | comes before | comes first | comes last | comes next | common |
            commonly | continues to | contract first | course | course of | customary | day one | dogfooding | each month |
            each week | end as | end with | ends as | ends in | ends up in | ends with | enters | entry | every day |
            every month | every story goes | every time | every week | exits | first week | follow this | follow this order
            | fortnightly | four-step | generally | go through | go to | goes back | goes through | goes to | handled first
            | handled last | happens | how we | in general | in the same | is followed | joins at | kick-off | kickoff |
            leads to | leaves | loop* back | monthly | move on | moves on | moves to | moving on | multi-stage | next comes
            | normally | observed | observed in | on day one | on this project | onboarding | onboarding of | once the |
            order for | order is | pattern* | phases | precede | preceded | precedes | prior to | procedure | procedures |
            process for | protocol for | quarterly | readiness checklist | recipe | recurring | regular | regularly | rhythm
            | route | same order | same routine | same way | sequence | sequential | sequentially | sign-off | sign-
            off chain | stage gate | stages | standard | start from | start with | starts at | steps for | succeeded by |
            take place | takes place | the same way | the way of | then comes | this order | three-step | track | two-step |
            typical | until the | usual | way of | ways of working | weekly | workflow | workflows""",
        1.5: """^after | ^before | ^how | ^if | ^normally | ^once | ^pattern | ^process | ^typically | ^usually | ^when
            | a feature | a story that | a typical | all changes | always | always the | and then | announce | any change |
            arrives | as a rule | at a time | before anyone | begins at | begins with | bug reports | by default | chain |
            changes that | closes with | consists of | cycle | depending on | deployments | each epic | each story |
            each time | every epic | every story | features | flow | followed by | followed by a | for a new | for each |
            for every | for every new | for new | freeze | gets | gets its | if the | in parallel with | in rounds |
            in that order | involves | iteration* | loops | must pass | never after | next one | not before | one at a time
            | one by one | only after | only then | opens with | passes | piece by piece | proceed | proceeds | refinement |
            repeated | repeats | returns to | review cycle | roll out | rollback | rollout | rounds of | runs through | seed
            | self-review | start the next | starts with | stories that | takes two | that way | triggered | typically |
            unless | used in | used in every | usually | when the | whenever""",
        1.0: """after that | afterwards | begins | branch from | ceremony | cherry-pick | closes | discovery |
            elicitation | epic | estimated | estimation | experiment* | finally | first | follow | follows | goes | hotfix |
            hotfixes | joined | last | loop | merge back | on monday | on thursday | on tuesday | on wednesday | once |
            opens | order | outline | path | phase | planning workflow | process | processed | processes | refined | shard |
            sharding | spike | sprint | stage | starts | steps | the order | the rest | then | until | when a | when an""",
        0.7: """again | architecture | brief | create | deploy | every | implement | involved | moves | plan | prd |
            prepare | publish | release | releases | repeat | research | review | reviews | second | stories | story | take
            | takes | test | tests | third | verify | week | weeks""",
        0.5: """after | approval | before | draft | each | planning | retro | rule | triage | when""",
    },
    "TASK_COMPLETION": {
        3.0: """<task> done | <task> finished | ^done | are done | end to end | finished work | got rid of | is closed |
            is complete | is done | is finished | is resolved | is solved | is sorted | is through | is up and running |
            is wrapped up | no longer | now works | outcome of <task> | story accepted | successfully | task complete |
            task was to | up and running | verified in | verified on | works again | works end | wrapped up | ✅""",
        2.5: """<task> complete | <task> completed | ^added | ^created | ^deployed | ^finished | ^fixed | ^implemented |
            ^merged | ^moved | ^removed | ^replaced | ^rewrote | ^shipped | all criteria | all criteria of | and merged |
            are live | criteria met | deployed to | for good | implemented and | is live | merged as | merged into |
            merged to | now live | redirects | reviewed and merged""",
        2.0: """<deed> a | <deed> all | <deed> and | <deed> by | <deed> from | <deed> in | <deed> the | <deed> to |
            <n> is in | <task> <deed> | ^brought | ^built | ^bumped | ^completed | ^delivered | ^dropped | ^finally | ^got |
            ^introduced | ^landed | ^made | ^outcome | ^pr | ^put | ^task | ^tightened | ^took | ^turned | accepted |
            accepted on | all acceptance criteria | all green | all tests pass | and <deed> | are now | been carried |
            bug fixed | by raising | can now | carried out | cleaned up | closed <task> | closes <task> | completed <task> |
            criteria are met | finished <task> | first version | fully <deed> | has been <deed> | in main | in place |
            is delivered | is fixed | is gone | is in | is merged | is now | left for later | no errors | none left |
            now goes | now has | now have | now prints | now returns | now shows | now supports | now takes | now uses |
            plus tests | pr is in | put in place | ran in production | ran on production | replace | replaces | rolled out |
            rollout | root cause | shrunk | story <n> done | story <n> implemented | swapped | swapped for | taken out |
            task is | tests pass | took out | verified | was <deed> | was cancelled | went live | what did not make it""",
        1.5: """acceptance criteria | accepted by | adapted | all subtasks | applied | backported | caller | callers |
            can be closed | commit | committed | completed | covered by | decommissioned | delivered | feature flag |
            flag removed | follow-up is | handled | implemented | in production | in use | incl | is out | merged | now |
            on production | pr <n> | regression test added | resolved | retired | shipped | sorted | sunset | tests added |
            ticket | unchanged | went from | what it does | with tests | works | works now""",
        1.0: """built | closed | component | components | deployed | done | edge cases | end-to-end | endpoint |
            finished | fix | fixed | flow works | gone | in <n> lines | last night | left out | lessons | lessons learnt |
            live | mended | migration | old one | preview | raised | ran | released | retry | screen | script | set | set up
            | takes effect | touched | twice | widget | with story | working | wrote a | wrote the""",
        0.8: """^set | ^story""",
        0.5: """<task> | added | bug | button | cause | deleted | form | job | page | removed | repaired | replaced |
            story <n> | tested""",
        -4.0: """is done by""",
    },
    "AGENT_SESSIONS": {
        3.0: """<n> of <n> done | ^continue | ^paused | ^resumed | ^stopped | ^yesterday | after the break | as of now |
            before i go | before leaving | before the next session | brain dump | check-in | context at | context reset |
            continue with | could not test | ctx reset | current focus | daily log | did not get | end of day |
            end of session | eod | for next time | for the next start | got as far as | had to stop | half done | half-
            way through | halfway through | handoff note | in the middle of | in this conversation | in this sitting |
            interrupted | last session | last thing | left at | left off | next session | pending from | pick it up |
            pick this up | picking up | planning session | ran out of | recap | remember for the next | right now |
            session end | session recap | session summary | spent most | stand-up | standup | status update | stopped at |
            stopped because | stopped for | stopping here | tbc | this conversation | this session | this sitting |
            till noon | to be continued | to go | to resume | was asked to | we discussed | we talked | what i did |
            what we did | when i stopped | where i am | where things stand | where we left | work log | working log""",
        2.0: """<clock> | ^afternoon | ^began | ^current | ^debugged | ^discussed | ^evening | ^explored | ^got |
            ^investigated | ^last | ^learned | ^left | ^looked | ^morning | ^next | ^quick | ^read | ^reviewed | ^started |
            ^then | ^today | ^tomorrow | ^tried | ^was | ^where | activated | afternoon | began <task> | came back |
            checkpoint | coded | come back | compaction | conversation | deactivated | dinner | discovered | discussed |
            do next | ended by | ended there | ended with | evening | failing tests | focus | going through | half-working |
            have not | hypotheses | hypothesis | i am | i did | i have | i will | i'll | i'm | i've | investigated |
            is posted | is running | just verified | kept running | last time | left running | looked into | looking at |
            lunch | next start | next thing | next time | no conclusion | no error handling yet | no fix yet | not begun |
            not done | not finished | not pushed | not started | nothing changed | nothing committed | now at |
            only one commit | open files | parked | paused | pending | pick up | picked up | resume* | session | sessions |
            so far | spent | started <task> | stash | still broken | still fail | still fails | still hang | still hangs |
            still need | still needs | still to | stubbed | suspect | suspects | tabs open | talked | tests pending |
            the user introduced | this afternoon | this evening | this morning | to do next | tonight | took <task> |
            try next | unclear | uncommitted | unfinished | untouched | user gave | user left | user showed | user wanted to
            | user will | was left | we agreed | we built | we did | we filled | we looked | we tried | we went | weekend |
            will try | wip | worked on | working on | working state | wrap up | wrap-up""",
        1.5: """attempt | attempted | attempts | began with | branch is | broke | broken | clue | dead ends | end of |
            ended | explored | first thing | found out | found that | found the | friday | go on | got stuck | guess |
            half way | halfway | hang | hangs | i | isolated | last commit | local | locally | minutes left | monday |
            moved on to | next step | no commit | not committed | not run | not solved | not yet | nothing lost | on branch
            | on monday | open question | ordered the | postponed | pulled | rebased | regenerated | remain | remaining |
            remains | rerun | see todo | started on | started to | started with | stashed | still failing | still open |
            still red | still untested | stoped | stopped | stuck | the user said | thursday | today | tomorrow | tried |
            untested | until friday | until monday | until noon | until tomorrow | we finished | we started | will think""",
        1.0: """<n> open | an hour | began | begun | changed | chapter | chapters | chasing | compared | continue* |
            dev server | did not | drafted | failing | for an hour | half | hour | hours | in progress | is written | left |
            log | maybe | morning | my | not fixed | not sure | open | perhaps | prepared | probably | progress | pushed |
            re-read | read the | reproduced | seems | story <n> | task <n> | tasks <n> | the next agent | this time | tmp |
            todo | two things | unsure | went through | yesterday""",
        0.5: """blocked | branch | first half | line <n> | looked at | notes | slide | started | still | summary | yet""",
    },
    "AGENT_CONTEXT": {
        3.0: """append-only | architectural decision | are computed | are forbidden | at rest | backed by | built on |
            business rule | by design | design decision | domain rule | env variables | env vars | environment variables |
            glossary | go through the | goes through | hard requirement | hosted at | hosted on | invariant | is computed |
            is forbidden | key decision | legal requirement | naming | never saved | never stored | note that | on boot |
            read-only | reads from | regulation | scope of the | single source of truth | sole writer | terminology |
            there are no | why there are | why there is | writes to""",
        2.0: """<adr> | ^assumption | ^background | ^env | ^key | ^naming | ^note | ^scope | adr | aggregate |
            all requests | archived | are generated by | are kept in | assumption | assumption in | background on | based on
            | can only | can't be | cannot be | charset | chose | comprises | computed | concurrent | consists | constraint*
            | currency | daemon | defaults to | depend on | depends on | derived | directly | domain | domain model |
            every request | expect a | expects a | forbidden | forbids | foreign key | generated by | generated from |
            has to remain | immutable | in sync | is allowed | is based on | is generated by | is kept in | is owned by |
            legacy | legislation | licence | license | live in | lives in | loaded from | mandatory | may only | monorepo |
            multi-tenant | must go | must have | must remain | not allowed | nothing else | nullable | only users |
            out of scope | owned by | per customer | per tenant | points to | primary key | prohibits | refers to | region |
            regulations | runs on | shared types | single | sit in | sits in | source of truth | stands for | still read by
            | still used | stored as | stored in | supports | talks to | tech stack | there is no | two kinds | used by |
            users only | validated | we chose | written by""",
        1.5: """a person | architectur* | arrive in | at start-up | authenticates | available | azure | behind the |
            belongs to | breaking change | bundled | cannot | capped at | chosen | clerk | closed with | consumes | crm |
            decided | decision | deprecated | deterministic | directories | directory | encoded as | encrypted | erp |
            exactly one | exist | exists | expires after | exposed | extends | frozen | gcp | goes away | hashed | helm |
            holds | implemented as | implemented in | in front of | indexed by | inherits | is the only | jdk | keyed by |
            layout | ldap | limited to | maps to | masked | may have | may not | means | mirrors | monolith | must be |
            must never | must not | named after | neon | next.js | not available | not supported | older than | one per |
            one row per | partitioned by | per environment | picked | prefixed with | prisma | protocol | purged |
            rate limit | replicates | requires | restart | retention | ruled out | s3 | sap | see <file> | set by |
            sharded by | signed with | sits behind | spring | terraform | unsupported | valid for | versioned |
            works without | written in | zero or""",
        1.2: """comes from | idempotent | policy | served from | speak | speaks | uses | we use""",
        1.0: """^max | account | accounts | apps | assum* | at most | because | bucket | cached | clients | cluster |
            column | columns | computed from | configur* | convention* | cron | customer's | database | default | defaults |
            desktop | environment | flag | flags | gateway | gdpr | hence | in code | internal | librar* | limits | loader |
            loaders | logs | mapping | max | maximum | minimum | mobile | optional | prefixed | production | router | rows |
            schema* | secret* | staging | support | tables | that is why | therefore | types | unique | utc | view | views""",
        0.6: """allowed | api | apis | back end | backend | cache | caches | ci | client | compliance | config |
            contains | data | desktop client | direct | django | downstream | encoding | entities | entity | file | files |
            format | framework | front end | frontend | golang | handler | has to | have to | identifier | in the code |
            includes | infrastructure | integration | integrations | java | law | layer | legal | message | mobile app |
            node | nothing | only | package | packages | payload | platform | provider | providers | python | rails | react
            | reads | record | records | requirement | runtime | rust | script | service | services | stack | storage |
            tenant | tenants | the client | third party | third-party | tier | typescript | upstream | web client |
            websocket | websockets | worker | workers | writes""",
        0.5: """<file> | <name> | aws | customers | docker | due to | e-mail | endpoint* | events | graphql | index |
            jwt | kafka | key | keys | kubernetes | model | module* | mongo | needs | nginx | postgres | postgresql | queue
            | redis | requests | server | table | timeout | token | tokens | users | vendor | versions""",
        0.4: """app | field | fields | link | log | old | page | route | store | there is only | web""",
    },
}
