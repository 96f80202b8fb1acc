/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * policy.h - is it worth it, and may it go on: tracker.c (which exits recur), cost.c (where a
 * take-over pays), waste.c (where more is made than avoided), backoff.h (what both do after a
 * loss), stay.c (how long the guest stays out of guest mode), slide.c (which programs are the same
 * one at another address).
 */
#ifndef NX_POLICY_H
#define NX_POLICY_H

#include "common.h"
#include "policy/backoff.h"

struct nx_cluster;

/* ---- tracker.c ---- */

/*
 * The leakage-aware exit tracker of the paper: 512 rows of 8-deep
 * FIFOs; a 35-bit hash gives a 9-bit row and a 26-bit tag.
 */
#define NX_TRACKER_ROWS 512
#define NX_TRACKER_DEPTH 8

struct nx_tracker_entry {
	uint32_t tag : 26;
	uint32_t count : 2; /* saturating */
	uint32_t age : 4;   /* epoch of insertion, modulo 16 */
	uint8_t properties; /* NX_TRACK_* */
	uint8_t valid : 1;
	uint8_t excused : 1; /* a search that failed for a missing page was forgiven */
	uint16_t skip;       /* exits still to pass before the next try: after a barren formation */
};

/* Kinds of exits that were met at an instruction: 1u << enum nx_exit_kind. */
#define NX_TRACK_IO (1u << NX_EXIT_IO)
#define NX_TRACK_MMIO (1u << NX_EXIT_MMIO)
#define NX_TRACK_APART (1u << 3) /* a store that must not be merged with the next one */
#define NX_TRACK_ALL (NX_TRACK_APART * 2 - 1)
#define NX_TRACK_BARREN_SHIFT 4 /* 4 bits: how often formation found nothing here */

struct nx_tracker {
	struct nx_tracker_entry row[NX_TRACKER_ROWS][NX_TRACKER_DEPTH]; /* [0] is the newest */
	uint64_t epoch_ns; /* when the current epoch began */
	uint8_t epoch;     /* modulo 16; an epoch is 1 s */
	uint64_t leaks;
	bool fresh;          /* the exit noted last was not known before, and is left */
	uint16_t skip_first; /* nx_experiment */
	bool give_up;
	bool eager; /* nx_config */
};

enum nx_track_verdict {
	NX_TRACK_COLD,  /* leave it */
	NX_TRACK_HOT,   /* translate */
	NX_TRACK_FORCE, /* translate: we leak */
};

/* Note an exit at pc, whose instruction bytes (len 0 if unknown) are hashed with it, at time now
 * in nanoseconds. */
enum nx_track_verdict nx_tracker_note(struct nx_tracker *tracker, uint64_t pc, const uint8_t *bytes,
				      unsigned len, unsigned properties, uint64_t now);
/* Note that it has been translated before: if the tracker knows it since its last exit only, it
 * is hot. */
bool nx_tracker_remember(struct nx_tracker *tracker, uint64_t pc, const uint8_t *bytes,
			 unsigned len);
/* Return the properties noted for this instruction, or 0. This counts nothing. */
unsigned nx_tracker_properties(const struct nx_tracker *tracker, uint64_t pc, const uint8_t *bytes,
			       unsigned len);
/* Note that the instruction's accesses go to memory after all. */
void nx_tracker_forget(struct nx_tracker *tracker, uint64_t pc, const uint8_t *bytes, unsigned len);
/* Note that formation found nothing for this pc. It is passed over for a while that doubles each
 * time. */
void nx_tracker_barren(struct nx_tracker *tracker, uint64_t pc, const uint8_t *bytes, unsigned len);

/*
 * A search behind pc has failed for a page that the processor may map any moment: return whether
 * the next exit there is to try again. That is so once, until a search has met an exit
 * (nx_tracker_fruitful()); from then on such a failure is one like any other.
 */
bool nx_tracker_excuse(struct nx_tracker *tracker, uint64_t pc, const uint8_t *bytes, unsigned len);
/* Note that a search behind pc has met an exit. */
void nx_tracker_fruitful(struct nx_tracker *tracker, uint64_t pc, const uint8_t *bytes,
			 unsigned len);

/* Return how many more exits at pc are passed over, at most so many, and pass over these. */
unsigned nx_tracker_pass(struct nx_tracker *tracker, uint64_t pc, const uint8_t *bytes,
			 unsigned len, unsigned most);

/* Return whether the last formation for this pc found nothing. */
bool nx_tracker_is_barren(const struct nx_tracker *tracker, uint64_t pc);

/* ---- alone.c ---- */

/* Note that a place was left to the hardware. */
void nx_alone_count(struct nx_engine *engine, uint64_t pc);
/* Note it so many times more. */
void nx_alone_pass(struct nx_engine *engine, uint64_t pc, unsigned times);
/* Note the result of a search for an exit behind such a place. */
void nx_alone_ended(struct nx_engine *engine, uint64_t pc, enum nx_status status);

/* ---- cost.c ---- */

/* The things that the engine builds once, with the median of the nanoseconds that each takes. */
enum nx_making {
	NX_MAKE_INSN,  /* an instruction of a cluster formed, translated and verified */
	NX_MAKE_TRACE, /* a path followed that may lead nowhere */
	NX_MAKE_STEPS, /* a path followed that is known, of blocks that are there */
	NX_MAKINGS
};

#define NX_ACCOUNTS 1024

/* The account of an exiting instruction at which stays begin (cost.c). */
struct nx_account {
	uint64_t name; /* of the instruction and its port */
	int64_t saved; /* nanoseconds net of the engine's, by the stays since the last decision */
	uint64_t owed; /* what was made for stays that began here and has not come back yet */
	uint64_t made; /* of it, since the last decision */
	uint32_t each; /* nanoseconds of a resume in its stays, a median; 0: not measured */
	uint8_t each_seen; /* measurements, up to what makes no difference */
	uint8_t founded;   /* stays that made something and were no trial for that */
	bool invested;     /* a decision has been made: what is made from now on has to pay soon */
	struct nx_backoff backoff; /* by the decisions against it in a row */
	uint32_t exits;            /* since something was made for them */
	uint32_t waits_for;        /* so much to be made; 0: nothing is waited for */
	uint8_t making;            /* of what */
	uint8_t stays;
	uint8_t class; /* enum nx_exit_class: of the exits there */
};

/* The value of the exits of the open stay, which began at nx_stay.hot_rip, and all accounts. */
struct nx_accounts {
	bool open, timed; /* the stay: until the next one begins; whether its resumes are timed */
	bool built;       /* something was made in the present resume */
	uint64_t saved;   /* nanoseconds, by the exits delivered in it */
	uint64_t made;    /* that making something took in it */
	uint64_t lost;    /* by the host's client, with exits that the hardware has not */
	uint64_t spent;   /* if timed: in resumes, without what was made */
	uint32_t resumes; /* that it had */
	struct nx_account account[NX_ACCOUNTS];
	uint64_t making_ns[NX_MAKINGS];  /* medians */
	uint8_t making_seen[NX_MAKINGS]; /* measurements, up to what makes no difference */
};

/* What follows from the host's costs for the exits of each class (nx_engine_set_costs()). */
struct nx_prices {
	uint32_t exit[NX_EXIT_CLASS_COUNT];       /* in nanoseconds; all 0: none was measured */
	uint32_t idle_turns[NX_EXIT_CLASS_COUNT]; /* as nx_cost_idle_turns() returns them */
};

/* Return the name of the account for exits at pc: of pc and, where the stay's own exit is meant,
 * its port. */
uint64_t nx_cost_name(const struct nx_engine *engine, uint64_t pc);
/* Return why the account of that name keeps stays from beginning, or COLD if it does not. */
enum nx_alone_reason nx_cost_alone(const struct nx_engine *engine, uint64_t name);
/* Return whether a stay may begin at the hardware's exit at pc, as far as cost goes; if so, a
 * stay is open. */
bool nx_cost_open(struct nx_engine *engine, uint64_t pc);
/* Return how many more exits at pc are declined, at most so many, and decline these. */
unsigned nx_cost_pass(struct nx_engine *engine, uint64_t pc, unsigned most);
/* Count an exit of that class that the engine has delivered in the stay, by the route that the
 * host named. */
void nx_cost_avoided(struct nx_engine *engine);
/* Do so for the write half of what the hardware meets as one exit. */
void nx_cost_avoided_half(struct nx_engine *engine);
/* Charge the time of building to the account of the place where the stay began. */
void nx_cost_made(struct nx_engine *engine, uint64_t ns);
/* Charge the time of a resume of a timed stay, without the building in it. */
void nx_cost_spent(struct nx_engine *engine, uint64_t ns);
/* End the stay, if one is open, and enter it into the account of the place where it began. */
void nx_cost_settle(struct nx_engine *engine);
/* Forget the open stay, which has not begun after all. */
void nx_cost_close(struct nx_engine *engine);
/* Note how long building count of these has taken. */
void nx_cost_learn(struct nx_engine *engine, enum nx_making making, unsigned count, uint64_t ns);
/* Return whether exits at pc have cost enough for building so many of these. If so, the count
 * starts over; else the next exits there wait. */
bool nx_cost_ripe(struct nx_engine *engine, uint64_t pc, enum nx_making making, unsigned count);
/* Count an exit at pc; return whether it waits for something that is not earned yet. */
bool nx_cost_waits(struct nx_engine *engine, uint64_t pc);
/* Return how many side exits at one branch cost as much as a first trace from there. */
unsigned nx_cost_first_leaves(const struct nx_engine *engine);
/* Return whether following a known path is cheaper than leaving. */
bool nx_cost_follow(const struct nx_engine *engine);
/* Count a side exit onto a known path that the cluster lacks; return whether such side exits have
 * cost a good part of what forming it did by now, or without costs are as many as its size takes.
 */
bool nx_cost_outgrown(const struct nx_engine *engine, struct nx_cluster *cluster);
/* Return whether costs have been measured and are used. */
bool nx_cost_known(const struct nx_engine *engine);
/* Return how many instructions on a path between two exits take as long. */
unsigned nx_cost_max_path(const struct nx_engine *engine);

/* ---- waste.c ---- */

#define NX_WASTE_PLACES 256

/* What places have left, and the open stay, which began at pc. */
struct nx_waste {
	bool open;
	uint64_t pc, made, avoided, resumes; /* the engine's counts when it began */
	struct nx_waste_place {
		uint64_t pc;
		int32_t credit;
		struct nx_backoff backoff; /* each time that the credit is used up */
	} place[NX_WASTE_PLACES];
};

/* Return whether a stay may begin at pc, as far as these counts go; if so, it is open. */
bool nx_waste_open(struct nx_engine *engine, uint64_t pc);
/* End the open stay, if there is one, and count what was made and avoided in it. */
void nx_waste_settle(struct nx_engine *engine);
/* Forget it: it has not begun after all. */
void nx_waste_close(struct nx_engine *engine);
/* Return how many more exits at pc are left alone, at most so many, and leave these. */
unsigned nx_waste_pass(struct nx_engine *engine, uint64_t pc, unsigned most);
/* Return whether the credit there has been used up lately. */
bool nx_waste_rests(const struct nx_engine *engine, uint64_t pc);

/* ---- stay.c ---- */

/* A stay in the engine: from an exit that the hardware delivered until the engine leaves. */
struct nx_stay {
	bool hot; /* the host was told that resuming here is worth it: translate at once */
	uint64_t hot_rip;
	uint16_t hot_port;  /* the port of that exit, or 0 */
	bool forced;        /* and only because the tracker leaks */
	uint64_t barren_pc; /* whom to note a barren formation for */
	/* Nothing can be formed here, and the trace that followed was cut off: trace at once. */
	uint64_t cut_rip;
	bool active;
	uint64_t exits; /* delivered since the last one of the hardware's */
	uint64_t instructions;
	bool resume_flag; /* RF was set when the stay began, at this rip. */
	uint64_t resume_rip;
	uint64_t time; /* the host's, at the hardware's exit: exact enough for the tracker */
	/* The host said that no interrupt waits, when the guest's window was opened in this stay;
	 * no exit has been delivered since. */
	bool window_asked;
	/* The STI that was run last, and the instruction in its shadow; equal: none. */
	uint64_t sti_rip, shadow_rip;
	enum nx_exit_class class; /* of the exit that the guest met last */
	enum nx_route routed;     /* what the host said of the exit that is about to be delivered */
};

/*
 * Return whether the instruction at rip may be the one in the shadow of an STI that the engine has
 * run: it is, unless a branch has led there since.
 */
static inline bool nx_stay_in_shadow(const struct nx_stay *stay, uint64_t rip)
{
	return rip == stay->shadow_rip && rip != stay->sti_rip;
}
/*
 * Take STI back if the guest has come no farther than its shadow, of which no host could be told:
 * the processor runs it again, and shadow and window are those of the hardware. Where a branch has
 * led to that instruction since, STI runs once more with interrupts enabled already, which changes
 * nothing.
 */
void nx_stay_take_back_sti(struct nx_engine *engine);
/* Begin a stay: the first resume since the hardware delivered an exit. */
void nx_stay_begin(struct nx_engine *engine);
/* Return NX_OK between two steps, or the reason to leave. */
enum nx_status nx_stay_must_pause(struct nx_engine *engine);
static inline bool nx_status_is_pause(enum nx_status status)
{
	return status == NX_LEAVE_STOP || status == NX_LEAVE_LATENCY || status == NX_LEAVE_SESSION;
}

/* ---- slide.c ---- */

#define NX_SLIDE_ROWS 256 /* a power of 2 */

/*
 * Programs lie elsewhere each time that they begin. What the engine knows of the code of one
 * (exits, paths, translations) it knows by the addresses at which it met that code first. The slide
 * is the distance from there to where the code lies now, a multiple of pages.
 */
struct nx_slides {
	struct nx_slide {
		uint64_t rip;    /* of an exit, where it was met first; 0: none */
		uint8_t changed; /* how often other code stood there */
	} row[NX_SLIDE_ROWS];
	uint64_t last_rip, last; /* the latest exit of a program, and its slide */
	uint64_t forced;         /* nx_experiment.slide */
};

/* Return an exit's slide, 0 for what is no program's or is not known. */
uint64_t nx_slide_of(const struct nx_slides *slides, uint64_t rip);
/* Do the same, and note where the exit is. */
uint64_t nx_slide_note(struct nx_slides *slides, uint64_t rip);
/* Note that other code stands where the latest exit of a program was. */
void nx_slide_changed(struct nx_slides *slides);

#endif
