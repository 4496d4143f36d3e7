package spec

import (
	"github.com/hull-go/hull/policy"
	"github.com/hull-go/hull/policy/retry"
)

// budgetID says which budget it is. Budgets with the same one are the same.
type budgetID struct {
	name    string // of a shared one
	service string // else whose it is
	options retry.BudgetOptions
}

func (b RetryBudget) id(service string) budgetID {
	id := budgetID{name: b.Name, options: b.options()}
	if b.Name == "" {
		id.service = service
	}
	return id
}

// budgets holds what services share.
type budgets map[budgetID]*retry.Budget

// get returns the budget from b or from old, or makes it.
func (b budgets) get(id budgetID, old budgets) (*retry.Budget, error) {
	if have := b[id]; have != nil {
		return have, nil
	}
	have := old[id]
	if have == nil {
		var err error
		if have, err = retry.NewBudget(id.options); err != nil {
			return nil, err
		}
	}
	b[id] = have
	return have, nil
}

// slot is the budget as a pipeline has it.
func (b RetryBudget) slot(budget *retry.Budget) policy.Budget {
	switch b.Mode {
	case Off:
		return nil
	case DryRun:
		return lenient{b.priced(budget)}
	}
	return b.priced(budget)
}

func (b RetryBudget) priced(budget *retry.Budget) policy.Budget {
	if b.Cost == usual && b.TimeoutCost == usualTimeout {
		return budget
	}
	return priced{budget, b.Cost, b.TimeoutCost}
}

// What extra attempts cost with nothing configured: see policy.Class.
const usual, usualTimeout = 10, 20

// priced is a budget with prices of its own.
type priced struct {
	*retry.Budget
	cost, timeoutCost int
}

// Spend implements policy.Budget.
func (p priced) Spend(now policy.Time, c policy.Criticality, tokens int) bool {
	switch {
	case tokens >= usualTimeout:
		tokens = tokens * p.timeoutCost / usualTimeout
	case tokens > 0:
		tokens = max(1, tokens*p.cost/usual)
	}
	return p.Budget.Spend(now, c, tokens)
}

// Unwrap returns the budget that is shared.
func (p priced) Unwrap() policy.Budget { return p.Budget }

// lenient asks a budget, which counts what it cannot pay for, and lets it be.
type lenient struct{ policy.Budget }

// Spend implements policy.Budget.
func (l lenient) Spend(now policy.Time, c policy.Criticality, tokens int) bool {
	l.Budget.Spend(now, c, tokens)
	return true
}

// Unwrap returns the budget that is asked.
func (l lenient) Unwrap() policy.Budget { return l.Budget }

// budgets checks that services which share a budget agree about it.
func (v *faults) budgets(s *Spec) {
	type place struct {
		path string
		id   budgetID
	}
	first := map[string]place{}
	check := func(path string, b RetryBudget) {
		if b.Name == "" {
			return
		}
		here := place{path, b.id("")}
		there, known := first[b.Name]
		switch {
		case !known:
			first[b.Name] = here
		case there.id != here.id:
			v.add(path+".retry_budget", "%q is the budget of %s too, with another capacity, per_peak or window: say the same in both, or say it in defaults", shorten(b.Name), there.path)
		}
	}
	check("defaults", s.Service("").RetryBudget)
	for _, name := range sorted(s.Services) {
		check("services."+name, s.Service(name).RetryBudget)
	}
}
